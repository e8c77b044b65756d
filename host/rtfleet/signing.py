"""Keys and certificates in the making: what stands in an authority's certificate and in those that it signs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from rtfleet.errors import UsageError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

# A board without a battery for its clock may be a little behind.
_CLOCKS_DIFFER = timedelta(minutes=10)

Holder: TypeAlias = Literal["agent", "host"]


def new_key() -> EllipticCurvePrivateKey:
    """A P-256 key. Not Ed25519: gRPC's BoringSSL does not offer it in its handshakes."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def authority(key: EllipticCurvePrivateKey, name: str, start: datetime, end: datetime) -> x509.Certificate:
    """The authority's own certificate. Raises UsageError for a name that can't stand in one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    subject = _name_of(name)
    return (
        _unsigned(key, subject, start, end)
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def certificate(
    key: EllipticCurvePrivateKey,
    name: str,
    role: Holder,
    addresses: Sequence[str],
    start: datetime,
    end: datetime,
    by: tuple[x509.Certificate, EllipticCurvePrivateKey],
) -> x509.Certificate:
    """A certificate for `key`, good for one role only, signed by an authority.

    Raises:
        UsageError: an address that is no DNS name and no IP address.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usage = ExtendedKeyUsageOID.SERVER_AUTH if role == "agent" else ExtendedKeyUsageOID.CLIENT_AUTH
    issuer, signing_key = by
    return (
        _unsigned(key, _name_of(name), start, end)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(_names(name, addresses))), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .sign(signing_key, hashes.SHA256())
    )


def pem(certificate: x509.Certificate) -> bytes:
    """As a file holds it."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    """As a file holds it, without a passphrase: agents start without a person."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> EllipticCurvePrivateKey:
    """The key in a file that `key_pem` filled. Raises UsageError."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise UsageError(f"{path}: is no private key in PEM without a passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path}: is no key that rtfleet made")
    return key


def _unsigned(
    key: EllipticCurvePrivateKey, subject: x509.Name, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _CLOCKS_DIFFER)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name_of(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    except ValueError as error:
        raise UsageError(f"{text!r} can't stand in a certificate: {error}") from None


def _names(name: str, addresses: Sequence[str]) -> Iterator[x509.GeneralName]:
    from cryptography import x509

    yield x509.DNSName(name)
    for address in addresses:
        try:
            yield x509.IPAddress(ipaddress.ip_address(address))
        except ValueError:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", address):
                raise UsageError(f"--host {address}: is no DNS name and no IP address") from None
            yield x509.DNSName(address)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
