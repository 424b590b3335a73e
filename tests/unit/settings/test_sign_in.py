"""Settings of the sign-in."""

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import load_settings

PREFIX = "CATEGORIZER_SIGN_IN__"
GOOD = {"ISSUER": "main", "CLIENT_ID": "photos", "PUBLIC_URL": "https://photos.example.com"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(monkeypatch, **changes):
    for name, value in (GOOD | changes).items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    return load_settings().sign_in


def test_by_https_cookies_are_secure(monkeypatch):
    assert load(monkeypatch).is_secure
    assert not load(monkeypatch, PUBLIC_URL="http://localhost:8080").is_secure


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PUBLIC_URL": "http://photos.example.com"}, "https URL"),
        ({"PUBLIC_URL": ""}, "https URL"),
        ({"PUBLIC_URL": "https://photos.example.com/app"}, "no path"),
        ({"CLIENT_ID": ""}, "client_id"),
        ({"SCOPES": '["email"]'}, "openid"),
    ],
)
def test_a_sign_in_that_cannot_work_stops_the_start(monkeypatch, changes, words):
    with pytest.raises(OperatorError, match=words):
        load(monkeypatch, **changes)


def test_the_secret_is_not_shown(monkeypatch):
    settings = load(monkeypatch, CLIENT_SECRET="hunter2")
    assert settings.client_secret == "hunter2"
    assert "hunter2" not in repr(settings)
