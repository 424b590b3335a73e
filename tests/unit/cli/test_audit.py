"""audit: keys that sign statements, and what is refused before anything is read."""

from datetime import UTC, datetime

import pytest
from image_categorizer_server.access.signing import PublicKey, SigningKey
from image_categorizer_server.cli.audit import _sum_up, _utc
from image_categorizer_server.services.audit_verification import Report


def test_a_new_key_is_for_its_owner_only_and_replaces_none(run, tmp_path):
    made = run("audit", "new-key", "audit.pem")
    file = tmp_path / "audit.pem"
    assert made.status == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert PublicKey.from_pem(file.read_text()).pem() == made.out
    before = file.read_text()
    assert run("audit", "new-key", "audit.pem").status == 1
    assert file.read_text() == before


def test_the_public_key_is_shown(run, tmp_path, monkeypatch):
    key = SigningKey.generate()
    (tmp_path / "audit.pem").write_text(key.pem())
    without = run("audit", "public-key", "--data", "none")
    assert without.status == 1
    assert "CATEGORIZER_AUDIT__SIGNING_KEY_FILE" in " ".join(without.err.split())
    monkeypatch.setenv("CATEGORIZER_AUDIT__SIGNING_KEY_FILE", str(tmp_path / "audit.pem"))
    assert run("audit", "public-key", "--data", "none").out == key.public_key.pem()


def test_a_file_without_a_key_is_refused(run, tmp_path):
    (tmp_path / "other.pem").write_text("nonsense")
    done = run("audit", "verify", "--public-key", "other.pem")
    assert (done.status, "holds no Ed25519 key" in done.err) == (1, True)


@pytest.mark.parametrize("is_checked", [True, False])
def test_a_verification_says_whether_signatures_were_verified(capsys, is_checked):
    report = Report(chains=1, events=2, statements=3)
    _sum_up(report, SigningKey.generate().public_key if is_checked else None)
    printed = " ".join(capsys.readouterr().err.split())
    assert "2 events of 1 chains, and 3 statements, are as they were written." in printed
    assert ("not verified" in printed) != is_checked


def test_times_are_in_utc():
    assert _utc(datetime(2026, 1, 31)) == datetime(2026, 1, 31, tzinfo=UTC)  # noqa: DTZ001
    assert _utc(None) is None
