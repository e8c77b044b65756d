"""The lab's authority: what it issues, takes back and refuses."""

from __future__ import annotations

import re
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rtfleet import certificates, pki
from rtfleet.errors import UsageError

NOW = datetime.now(UTC)


@pytest.fixture(name="lab")
def _lab(tmp_path: Path) -> Path:
    pki.init(tmp_path / "lab", "test")
    return tmp_path / "lab"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_authority_keeps_its_key_to_itself(lab: Path) -> None:
    made = certificates.read(lab / "ca.pem")

    assert (made.name, made.role) == ("rtfleet lab test", "authority")
    assert mode(lab) == 0o700 and mode(lab / "ca.key") == 0o600
    assert certificates.read_revoked(lab / "revoked.txt") == {}


def test_a_second_authority_never_replaces_the_first(lab: Path) -> None:
    key = (lab / "ca.key").read_bytes()

    with pytest.raises(UsageError, match="holds an authority already"):
        pki.init(lab, "another")

    assert (lab / "ca.key").read_bytes() == key


def test_an_agents_folder_has_all_that_it_needs_for_90_days(lab: Path) -> None:
    made, folder = pki.issue(lab, "bench", "agent", addresses=["board.lan", "10.0.0.7"])

    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "cert.pem", "key.pem", "revoked.txt"]
    assert mode(folder / "key.pem") == 0o600
    assert (made.name, made.role, made.issuer) == ("bench", "agent", "rtfleet lab test")
    assert made.names == ("bench", "board.lan")
    assert timedelta(days=89) < made.valid_until - NOW < timedelta(days=91)
    assert certificates.is_signed_by(certificates.load(folder / "cert.pem"), certificates.load(folder / "ca.pem"))
    # OpenSSL agrees that certificate and key belong together.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "cert.pem", folder / "key.pem")


def test_a_name_is_not_given_twice_unless_it_is_renewed(lab: Path) -> None:
    first, folder = pki.issue(lab, "ann", "host")
    with pytest.raises(UsageError, match=rf"ann: has a certificate already \(host, {first.serial}, until"):
        pki.issue(lab, "ann", "host")
    with pytest.raises(UsageError, match="has a certificate already"):
        pki.issue(lab, "ann", "agent")

    second, again = pki.issue(lab, "ann", "host", renew=True)

    assert again == folder and second.serial != first.serial
    assert certificates.read(folder / "cert.pem") == second


def test_files_that_are_there_are_not_replaced(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "key.pem").write_text("another key")

    with pytest.raises(UsageError, match=r"mine/key\.pem: exists already"):
        pki.issue(lab, "ann", "host", out=tmp_path / "mine")

    assert (tmp_path / "mine" / "key.pem").read_text() == "another key"


def test_an_expired_name_may_be_issued_anew_elsewhere(lab: Path, tmp_path: Path) -> None:
    old, _ = pki.issue(lab, "ann", "host", now=NOW - timedelta(days=100))

    new, _ = pki.issue(lab, "ann", "host", out=tmp_path / "new")

    assert old.valid_until < NOW < new.valid_until


@pytest.mark.parametrize("name", ["", "a b", "../up", "-x", "x" * 64, "bench\n"])
def test_a_name_that_could_be_no_devices_is_refused(lab: Path, name: str) -> None:
    with pytest.raises(UsageError, match="a name is up to 63 letters"):
        pki.issue(lab, name, "agent")


def test_an_address_that_is_none_is_refused(lab: Path) -> None:
    with pytest.raises(UsageError, match="--host not an address"):
        pki.issue(lab, "bench", "agent", addresses=["not an address"])


def test_nothing_outlives_the_authority(lab: Path) -> None:
    with pytest.raises(UsageError, match="the authority itself ends on"):
        pki.issue(lab, "bench", "agent", days=4000)


def test_a_revoked_name_is_on_every_copy_of_the_list(lab: Path) -> None:
    made, _ = pki.issue(lab, "ann", "host")
    renewed, folder = pki.issue(lab, "ann", "host", renew=True)
    _, agent = pki.issue(lab, "bench", "agent")

    revoked = pki.revoke(lab, "ann")

    assert {one.serial for one in revoked} == {made.serial, renewed.serial}
    for place in (lab, folder, agent):
        listed = certificates.read_revoked(place / "revoked.txt")
        assert {made.fingerprint, renewed.fingerprint} == set(listed)
    # Who gets a certificate later also knows.
    _, later = pki.issue(lab, "ben", "host")
    assert made.fingerprint in certificates.read_revoked(later / "revoked.txt")


def test_one_of_two_is_revoked_by_its_serial_number(lab: Path) -> None:
    old, _ = pki.issue(lab, "ann", "host")
    new, _ = pki.issue(lab, "ann", "host", renew=True)

    assert pki.revoke(lab, old.serial.lower()) == [old]

    assert {one.certificate.serial: one.counts(NOW) for one in pki.issued(lab)} == {old.serial: False, new.serial: True}


def test_what_can_not_be_revoked_says_why(lab: Path) -> None:
    pki.issue(lab, "ann", "host")
    pki.revoke(lab, "ann")

    with pytest.raises(UsageError, match="ann: is revoked or expired already"):
        pki.revoke(lab, "ann")
    with pytest.raises(UsageError, match=r"ben: .* has issued no certificate of this name"):
        pki.revoke(lab, "ben")


def test_a_list_that_is_damaged_is_refused_with_its_line(lab: Path) -> None:
    (lab / "revoked.txt").write_text("# a comment\n\nhalf a line\n")

    with pytest.raises(UsageError, match=r"revoked\.txt:3: is no line"):
        pki.issued(lab)


def test_without_an_authority_the_next_step_is_named(tmp_path: Path) -> None:
    for ask in (lambda: pki.issue(tmp_path, "a", "host"), lambda: pki.issued(tmp_path)):
        with pytest.raises(UsageError) as refused:
            ask()
        assert refused.value.hint == f"rtfleet pki init --dir {tmp_path}"


@pytest.mark.slow
def test_the_commands_from_the_first_to_the_last(tmp_path: Path) -> None:
    def told(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rtfleet.cli.main", "pki", *words, "--dir", str(tmp_path / "lab")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    made = [told("init", "--name", "demo"), told("issue", "bench"), told("issue", "ann", "--client", "--days", "7")]
    revoked, again = told("revoke", "bench"), told("revoke", "bench")
    shown = told("show")

    assert [one.returncode for one in (*made, revoked, shown)] == [0] * 5, [one.stderr for one in made]
    assert "hosts/ann: host 'ann', serial" in made[2].stdout
    assert f"now copy {tmp_path}/lab/revoked.txt over" in revoked.stdout
    assert again.returncode == 2 and "revoked or expired already" in again.stderr
    assert re.search(r"^ann +host +counts ", shown.stdout, re.MULTILINE)
    assert re.search(r"^bench +agent +revoked \d{4}-", shown.stdout, re.MULTILINE)
