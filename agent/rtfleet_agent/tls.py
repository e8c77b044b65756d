"""The agent's side of mutual TLS: its folder of keys, read again when it changes, and who is let in no more.

ca.pem        the authority whose hosts may come in
cert.pem      this agent's certificate
key.pem       its private key, mode 0600
revoked.txt   certificates that no longer count: "sha256 date name" lines; `rtfleet pki` writes it

`ssl` proves that certificate and key belong together; the connections are gRPC's.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import stat
from dataclasses import dataclass
from pathlib import Path

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")

_log = logging.getLogger("rtfleet-agent")


class BadTlsFolder(Exception):
    """The folder can't be used; the message says which file and what to do."""


@dataclass(frozen=True, repr=False)
class Keys:
    """What a server shows and trusts, in PEM."""

    authority: bytes
    certificate: bytes
    key: bytes


class TlsFolder:
    """The folder of one agent. Safe to call from several threads: what it holds is only ever replaced whole.

    Raises:
        BadTlsFolder: a file is missing, others can read the key, or the files do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen = self._stamps("ca.pem", "cert.pem", "key.pem")
        self.keys = self._read_keys()
        self._revoked_seen = self._stamps("revoked.txt")
        self._revoked = self._read_revoked()

    def renewed(self) -> Keys | None:
        """The keys, where they are others than at the last call; files that don't fit together change nothing."""
        stamps = self._stamps("ca.pem", "cert.pem", "key.pem")
        if stamps == self._seen:
            return None
        self._seen = stamps
        try:
            self.keys = self._read_keys()
        except BadTlsFolder as error:
            _log.warning("the keys that were there go on: %s", error)
            return None
        return self.keys

    def objection(self, certificate: bytes) -> str:
        """Why the holder of this certificate (PEM) is not let in; "" where TLS itself has seen to everything."""
        stamps = self._stamps("revoked.txt")
        if stamps != self._revoked_seen:
            try:
                self._revoked = self._read_revoked()
                self._revoked_seen = stamps
            except BadTlsFolder as error:
                # Until it can be read again: whoever was taken out might be the one who asks.
                return f"this agent lets nobody in: {error}"
        return self._revoked.get(_fingerprint(certificate), "")

    def _read_keys(self) -> Keys:
        # Not at the top: an agent without TLS must also start on a Python without it.
        import ssl

        ca, certificate, key = (self.folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        keys = Keys(_read(ca), _read(certificate), _read(key))
        mode = stat.S_IMODE(key.stat().st_mode)
        if mode & 0o077:
            raise BadTlsFolder(f"{key} has mode {mode:04o}: others can read it; chmod 600 {key}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(certificate, key)
        except ssl.SSLError as error:
            raise BadTlsFolder(f"{certificate} and {key} do not belong together ({error.reason})") from error
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise BadTlsFolder(f"{ca} holds no certificate ({error.reason})") from error
        return keys

    def _read_revoked(self) -> dict[str, str]:
        """Fingerprint -> what to say to its holder."""
        path = self.folder / "revoked.txt"
        found: dict[str, str] = {}
        for number, line in enumerate(_read(path).decode(errors="replace").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            words = line.split()
            if len(words) != 3 or not _FINGERPRINT.fullmatch(words[0]):
                raise BadTlsFolder(f"{path}:{number} is no line of a list of revoked certificates; copy it anew")
            found[words[0]] = f"the certificate of '{words[2]}' was revoked on {words[1][:10]}"
        return found

    def _stamps(self, *names: str) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes when a file is replaced or written to."""
        stamps: list[tuple[int, int, int] | None] = []
        for name in names:
            try:
                found = (self.folder / name).stat()
                stamps.append((found.st_ino, found.st_mtime_ns, found.st_size))
            except OSError:
                stamps.append(None)
        return tuple(stamps)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = "the folder that `rtfleet pki issue` makes has all four: ca.pem, cert.pem, key.pem, revoked.txt"
        raise BadTlsFolder(f"{path} can't be read ({error.strerror}); {hint}") from error


def _fingerprint(certificate: bytes) -> str:
    """sha256 of a certificate in PEM; "" of what is none."""
    found = _PEM.search(certificate)
    return hashlib.sha256(base64.b64decode(found[1])).hexdigest() if found else ""
