"""The lab's own authority: it issues certificates to agents and hosts, and takes them back.

ca.pem, ca.key    the authority; whoever has the key can let anybody in
revoked.txt       what was taken back; each agent and host has a copy beside its certificate
issued/           every certificate that was issued, by serial number
agents/, hosts/   a folder for each, ready to be copied to its machine
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rtfleet import certificates, signing
from rtfleet.certificates import AUTHORITY, CERTIFICATE, KEY, REVOKED, Certificate, Revocation
from rtfleet.errors import UsageError
from rtfleet.signing import Holder

DAYS = 90
_AUTHORITY_KEY = "ca.key"
_AUTHORITY_DAYS = 3650
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_REVOKED_HEADER = "# Revoked certificates: sha256 of the certificate, when, whose. A copy lies beside each one.\n"


@dataclass(frozen=True)
class Issued:
    """A certificate that the authority issued, and whether it still counts."""

    certificate: Certificate
    revoked: Revocation | None

    def counts(self, now: datetime) -> bool:
        """Whether it lets somebody in."""
        return self.revoked is None and now < self.certificate.valid_until


def default_folder() -> Path:
    """Where the lab's keys lie when no other place is named."""
    return certificates.config_folder() / "pki"


def init(folder: Path, lab: str) -> Certificate:
    """Makes an authority in a folder that has none; its certificate.

    Raises:
        UsageError: there is one already.
    """
    if (folder / _AUTHORITY_KEY).exists() or (folder / AUTHORITY).exists():
        raise UsageError(
            f"{folder}: holds an authority already",
            "issue from it, or name another folder; a new authority means new certificates for every agent and host",
        )
    key, now = signing.new_key(), datetime.now(UTC)
    certificate = signing.authority(key, f"rtfleet lab {lab}", now, now + timedelta(days=_AUTHORITY_DAYS))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(folder / _AUTHORITY_KEY, signing.key_pem(key), mode=0o600)
    _write(folder / REVOKED, _REVOKED_HEADER.encode())
    _write(folder / AUTHORITY, signing.pem(certificate))
    return certificates.facts(certificate)


def issue(
    folder: Path,
    name: str,
    role: Holder,
    *,
    addresses: Sequence[str] = (),
    days: int = DAYS,
    out: Path | None = None,
    renew: bool = False,
    now: datetime | None = None,
) -> tuple[Certificate, Path]:
    """Issues a certificate with a new key; what it says, and the folder that was made for its holder's machine.

    Args:
        folder: Of the authority.
        name: Of an agent its name in fleet.toml; of a host what its leases are held under.
        addresses: DNS names and IP addresses beside the name, for other gRPC clients; rtfleet goes by the name.
        out: The holder's folder; default `agents/NAME` or `hosts/NAME` in `folder`.
        renew: The name may have a certificate that still counts, and `out` one that is replaced.
        now: When it is issued.

    Raises:
        UsageError: a name that can't be one, one that has a certificate already, or no authority in `folder`.
    """
    now = now or datetime.now(UTC)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r}: a name is up to 63 letters, digits, '-', '_' and '.'")
    if not (folder / AUTHORITY).exists():
        raise _no_authority(folder)
    authority = certificates.load(folder / AUTHORITY)
    authority_key = signing.read_key(folder / _AUTHORITY_KEY)
    out = out or folder / f"{role}s" / name
    if not renew:
        _check_new(folder, name, out, now)
    until = now + timedelta(days=days)
    if until > authority.not_valid_after_utc:
        at = certificates.day(authority.not_valid_after_utc)
        raise UsageError(f"--days {days}: the authority itself ends on {at}", "make a new one with rtfleet pki init")
    key = signing.new_key()
    certificate = signing.certificate(key, name, role, addresses, now, until, (authority, authority_key))
    facts = certificates.facts(certificate)
    # First what the authority remembers: a certificate that nobody knows of could not be revoked.
    _write(folder / "issued" / f"{facts.serial}.pem", signing.pem(certificate))
    _write(out / AUTHORITY, signing.pem(authority))
    _write(out / REVOKED, (folder / REVOKED).read_bytes())
    _write(out / KEY, signing.key_pem(key), mode=0o600)
    _write(out / CERTIFICATE, signing.pem(certificate))
    return facts, out


def revoke(folder: Path, which: str, now: datetime | None = None) -> list[Certificate]:
    """Takes back the certificates of a name that still count, or the one of a serial number.

    The copies of the list in `agents/` and `hosts/` are brought up to date; those on other machines are not.

    Raises:
        UsageError: there is nothing to take back.
    """
    now = now or datetime.now(UTC)
    known = issued(folder)
    meant = [one for one in known if which == one.certificate.name or which.upper() == one.certificate.serial]
    if not meant:
        raise UsageError(f"{which}: {folder} has issued no certificate of this name or serial number")
    revoked = [one.certificate for one in meant if one.counts(now)]
    if not revoked:
        raise UsageError(f"{which}: is revoked or expired already")
    lines = "".join(f"{one.fingerprint} {now.isoformat(timespec='seconds')} {one.name}\n" for one in revoked)
    text = (folder / REVOKED).read_bytes() + lines.encode()
    for copy in (folder, *folder.glob("agents/*"), *folder.glob("hosts/*")):
        if (copy / REVOKED).exists():
            _write(copy / REVOKED, text)
    return revoked


def issued(folder: Path) -> list[Issued]:
    """Every certificate that the authority issued, by name and then by age. Raises UsageError."""
    if not (folder / AUTHORITY).exists():
        raise _no_authority(folder)
    revoked = certificates.read_revoked(folder / REVOKED)
    found = [certificates.read(path) for path in (folder / "issued").glob("*.pem")]
    found.sort(key=lambda one: (one.role, one.name, one.valid_until))
    return [Issued(one, revoked.get(one.fingerprint)) for one in found]


def _check_new(folder: Path, name: str, out: Path, now: datetime) -> None:
    """Raises UsageError where something would be replaced, or one name stand for two."""
    for one in issued(folder):
        if one.certificate.name == name and one.counts(now):
            until = certificates.day(one.certificate.valid_until)
            raise UsageError(
                f"{name}: has a certificate already ({one.certificate.role}, {one.certificate.serial}, until {until})",
                "add --renew for another one; revoke the old one if its key may be in other hands",
            )
    for file in certificates.FILES:
        if (out / file).exists():
            raise UsageError(f"{out / file}: exists already", "name another folder with --out, or add --renew")


def _no_authority(folder: Path) -> UsageError:
    return UsageError(f"{folder}: holds no authority", f"rtfleet pki init --dir {folder}")


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Whole or not at all: an agent may read it at any time."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    part.replace(path)
