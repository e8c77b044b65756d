"""A standing agent on the network, by mutual TLS.

gRPC says "Socket closed" whatever is wrong with a certificate, and an agent sends no reason either. So everything is
looked at before gRPC dials: this host's own certificate, then the agent's in a handshake of Python's `ssl`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from rtfleet import certificates
from rtfleet.certificates import AUTHORITY, CERTIFICATE, FILES, KEY, REVOKED, Certificate, day
from rtfleet.errors import DeviceError, UsageError
from rtfleet.fleet import Device
from rtfleet.transports import Link, Tls

DIAL_TIMEOUT_S = 10.0
# What OpenSSL says of a certificate that does not hold.
_EXPIRED, _NOT_YET_VALID = 10, 9


def default_folder() -> Path:
    """Where this host's certificate lies when fleet.toml names no other folder."""
    return certificates.config_folder() / "tls"


@contextlib.asynccontextmanager
async def connect(device: Device, address: str) -> AsyncIterator[Link]:
    """The agent at "host:port". It was there before and stays.

    Raises:
        DeviceError: nobody listens there, or one of the two certificates is missing, expired, revoked or a wrong one.
    """
    yield await asyncio.to_thread(_checked, device, address)


def _checked(device: Device, address: str) -> Link:
    folder = device.tls or default_folder()
    try:
        own = _own_certificate(folder)
        _check_agent(device.name, address, folder, own)
    except (UsageError, DeviceError) as error:
        retryable = isinstance(error, DeviceError) and error.retryable
        raise DeviceError(f"device '{device.name}': {error.text}", error.hint, retryable=retryable) from None
    pem = {name: (folder / name).read_bytes() for name in (AUTHORITY, CERTIFICATE, KEY)}
    return Link(address, "", tls=Tls(pem[AUTHORITY], pem[CERTIFICATE], pem[KEY], device.name))


def _refused(text: str, hint: str) -> DeviceError:
    """What trying again does not help against."""
    return DeviceError(text, hint, retryable=False)


# ---- this host's certificate ---------------------------------------------------------------------------------------


def _own_certificate(folder: Path) -> Certificate:
    """Raises DeviceError or UsageError where it would not be let in."""
    for name in FILES:
        if not (folder / name).exists():
            raise _refused(
                f"this host has no certificate to show: {folder / name} is missing",
                f"copy the folder that `rtfleet pki issue HOSTNAME --client` makes to {folder}, "
                "or name its place in fleet.toml: tls",
            )
    path = folder / CERTIFICATE
    certificate, authority = certificates.load(path), certificates.load(folder / AUTHORITY)
    own = certificates.facts(certificate)
    what = f"this host's certificate ('{own.name}', {path})"
    anew = f"rtfleet pki issue {own.name} --client --renew, where the lab's keys are; copy its folder to {folder}"
    now = datetime.now(UTC)
    if own.role != "host":
        raise _refused(f"{what} is an {own.role}'s", "a host needs one that was issued with --client")
    if not certificates.is_signed_by(certificate, authority):
        name = certificates.facts(authority).name
        raise _refused(f"{what} is from another authority, '{own.issuer}', than {AUTHORITY} beside it, '{name}'", anew)
    if now >= own.valid_until:
        raise _refused(f"{what} expired on {day(own.valid_until)}", anew)
    if now < own.valid_from:
        raise _refused(f"{what} is valid only from {own.valid_from:%Y-%m-%d %H:%M} UTC on", "set this host's clock")
    if revoked := certificates.read_revoked(folder / REVOKED).get(own.fingerprint):
        raise _refused(f"{what} was revoked on {day(revoked.at)}", anew)
    return own


# ---- the agent's certificate ---------------------------------------------------------------------------------------


def _check_agent(device: str, address: str, folder: Path, own: Certificate) -> None:
    """Raises DeviceError where the agent can't be reached, is not this device's, or does not take our certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The name is compared below, where both can be said.
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(folder / AUTHORITY)
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except ssl.SSLError as error:
        text = f"{folder}: {CERTIFICATE} and {KEY} do not belong together ({error.reason})"
        raise _refused(text, "copy the whole folder anew") from None
    try:
        with _handshake(context, address) as line:
            _check_certificate(device, address, folder, _shown(line))
            _check_let_in(line, address, own)
    except ssl.SSLCertVerificationError as error:
        raise _objection(context, address, folder, error) from None


def _handshake(context: ssl.SSLContext, address: str) -> ssl.SSLSocket:
    host, _, port = address.rpartition(":")
    try:
        plain = socket.create_connection((host.strip("[]"), int(port)), DIAL_TIMEOUT_S)
    except socket.gaierror as error:
        text = f"nobody knows the address of '{host}' ({error.strerror})"
        raise _refused(text, "see `connect` in fleet.toml") from None
    except ConnectionRefusedError:
        hint = "on the device: is the agent's service running, and on that port?"
        raise DeviceError(f"nothing listens at {address}", hint) from None
    except OSError as error:
        text = f"{address} can't be reached ({error.strerror or error})"
        raise DeviceError(text, "see whether the device is on and in the network") from None
    try:
        return context.wrap_socket(plain)
    except ssl.SSLCertVerificationError:
        raise
    except OSError as error:
        # Also of a peer that hangs up or says nothing for so long.
        reason = getattr(error, "reason", None) or error
        hint = "start the agent there with --tls-dir, and see that nothing else listens on that port"
        raise _refused(f"what listens at {address} speaks no TLS ({reason})", hint) from None


def _shown(line: ssl.SSLSocket) -> Certificate:
    """What the other side's certificate says."""
    from cryptography import x509

    shown = line.getpeercert(binary_form=True)
    assert shown is not None  # no handshake without one
    return certificates.facts(x509.load_der_x509_certificate(shown))


def _check_certificate(device: str, address: str, folder: Path, agent: Certificate) -> None:
    if device.lower() not in map(str.lower, agent.names):
        named = ", ".join(f"'{name}'" for name in agent.names)
        raise _refused(
            f"the agent at {address} is {named}, not '{device}'",
            f"see `connect` in fleet.toml, or give the device its name there: rtfleet pki issue {device}",
        )
    if revoked := certificates.read_revoked(folder / REVOKED).get(agent.fingerprint):
        raise _refused(
            f"the agent's certificate ('{agent.name}', serial {agent.serial}) was revoked on {day(revoked.at)}",
            f"rtfleet pki issue {device} --renew, and copy its folder to the device",
        )


def _check_let_in(line: ssl.SSLSocket, address: str, own: Certificate) -> None:
    """In TLS 1.3 a server looks at our certificate after the handshake is over for us; then it speaks, or hangs up."""
    try:
        let_in = bool(line.recv(1))
    except OSError:
        let_in = False
    if not let_in:
        raise _refused(
            f"the agent at {address} closed the line on this host's certificate ('{own.name}', from '{own.issuer}', "
            f"until {day(own.valid_until)}); an agent says no reason",
            f"on the device: is {AUTHORITY} in its --tls-dir that of '{own.issuer}', and is its clock right?",
        )


def _objection(context: ssl.SSLContext, address: str, folder: Path, error: ssl.SSLCertVerificationError) -> DeviceError:
    """What is wrong with the agent's certificate; a second handshake shows what it says."""
    context.verify_mode = ssl.CERT_NONE
    with _handshake(context, address) as line:
        agent = _shown(line)
    what = f"the agent's certificate ('{agent.name}', {address})"
    anew = f"rtfleet pki issue {agent.name} --renew, where the lab's keys are; copy its folder to the device"
    if error.verify_code == _EXPIRED:
        return _refused(f"{what} expired on {day(agent.valid_until)}", anew)
    if error.verify_code == _NOT_YET_VALID:
        return _refused(f"{what} is valid only from {agent.valid_from:%Y-%m-%d %H:%M} UTC on", "set this host's clock")
    trusted = certificates.read(folder / AUTHORITY).name
    if agent.role != "agent":
        return _refused(f"{what} is a {agent.role}'s", "an agent needs one that was issued without --client")
    return _refused(
        f"{what} is from another authority, '{agent.issuer}', than this host's, '{trusted}' ({error.verify_message})",
        f"one of the two needs a certificate of the other's lab; this host's is in {folder}",
    )
