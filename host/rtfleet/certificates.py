"""Certificates and the list of revoked ones, as files that both sides of mutual TLS keep beside each other.

ca.pem        whom this side trusts: the lab's own authority
cert.pem      who this side is: a name, a role (agent or host), 90 days
key.pem       its private key, mode 0600
revoked.txt   the certificates that no longer count, one a line: sha256 of the certificate, when, whose

The list is plain text and not a signed CRL: it lies beside ca.pem, and who can write there could as well replace that.
So an agent needs a hash to read it, and no library.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from rtfleet.errors import UsageError

if TYPE_CHECKING:
    from cryptography import x509

AUTHORITY, CERTIFICATE, KEY, REVOKED = "ca.pem", "cert.pem", "key.pem", "revoked.txt"
FILES = (AUTHORITY, CERTIFICATE, KEY, REVOKED)

Role: TypeAlias = Literal["agent", "host", "authority"]


@dataclass(frozen=True)
class Certificate:
    """What a certificate says.

    Attributes:
        name: Of an agent its device's name in fleet.toml, of a host what leases are held under.
        role: What it may be used for; an agent's is no good for a host.
        serial: Hex digits.
        issuer: Name of the authority that signed it, as it claims.
        fingerprint: sha256 of the certificate.
        names: DNS names that it is good for.
    """

    name: str
    role: Role
    serial: str
    issuer: str
    fingerprint: str
    valid_from: datetime
    valid_until: datetime
    names: tuple[str, ...]


@dataclass(frozen=True)
class Revocation:
    """One line of the list of revoked certificates."""

    fingerprint: str
    at: datetime
    name: str


def config_folder() -> Path:
    """Where a person's own keys lie: `rtfleet` below $XDG_CONFIG_HOME, else below ~/.config."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "rtfleet"


def day(moment: datetime) -> str:
    """As messages show it: `2026-11-24`."""
    return moment.date().isoformat()


def load(path: Path) -> x509.Certificate:
    """The certificate in a PEM file. Raises UsageError."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path}: is no certificate in PEM") from None


def read(path: Path) -> Certificate:
    """What the certificate in a PEM file says. Raises UsageError."""
    return facts(load(path))


def facts(certificate: x509.Certificate) -> Certificate:
    """What a certificate says."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

    extensions = {extension.oid: extension.value for extension in certificate.extensions}
    usage = extensions.get(ExtensionOID.EXTENDED_KEY_USAGE, ())
    names = extensions.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    role: Role = "agent" if ExtendedKeyUsageOID.SERVER_AUTH in usage else "host"
    if isinstance(basic := extensions.get(ExtensionOID.BASIC_CONSTRAINTS), x509.BasicConstraints) and basic.ca:
        role = "authority"
    return Certificate(
        name=_common_name(certificate.subject),
        role=role,
        serial=f"{certificate.serial_number:X}",
        issuer=_common_name(certificate.issuer),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        names=(
            tuple(names.get_values_for_type(x509.DNSName)) if isinstance(names, x509.SubjectAlternativeName) else ()
        ),
    )


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key made the certificate's signature."""
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _common_name(name: x509.Name) -> str:
    from cryptography.x509.oid import NameOID

    return next((str(part.value) for part in name.get_attributes_for_oid(NameOID.COMMON_NAME)), "")


def read_revoked(path: Path) -> Mapping[str, Revocation]:
    """The revoked certificates of a list, by fingerprint. Raises UsageError: a list that can't be read revokes all."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}", "copy it from beside the lab's keys") from None
    found: dict[str, Revocation] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            fingerprint, at, name = line.split()
            found[fingerprint] = Revocation(fingerprint, datetime.fromisoformat(at), name)
        except ValueError:
            raise UsageError(f"{path}:{number}: is no line of a list of revoked certificates") from None
    return found
