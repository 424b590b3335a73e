"""Settings of access tokens."""

import json
from pathlib import Path

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import load_settings
from image_categorizer_server.settings.token import IssuerSettings

ISSUERS = "CATEGORIZER_TOKEN__ISSUERS"
GOOD = {
    "name": "main",
    "issuer": "https://id.example",
    "audiences": ["image-categorizer"],
    "roles": {"users": "classifier"},
}
PAGE = Path(__file__).resolve().parents[3] / "docs" / "tokens.md"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_an_issuer_needs_few_settings(monkeypatch):
    monkeypatch.setenv(ISSUERS, json.dumps([GOOD]))
    (issuer,) = load_settings().token.issuers
    assert issuer.algorithms == ("RS256", "ES256", "PS256", "EdDSA")
    assert issuer.types == ("at+jwt",)


def test_a_claim_is_a_name_or_a_path(monkeypatch):
    nested = {**GOOD, "role_claim": ["realm_access", "roles"], "tenant_claim": "org"}
    monkeypatch.setenv(ISSUERS, json.dumps([nested]))
    (issuer,) = load_settings().token.issuers
    assert (issuer.role_claim, issuer.tenant_claim) == (("realm_access", "roles"), ("org",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"audiences": []}, "audiences"),
        ({"roles": {}}, "roles"),
        ({"name": "Main"}, "name must be"),
        ({"name": ""}, "name must be"),
        ({"issuer": "id.example"}, "must be URLs"),
        ({"issuer": "http://id.example"}, "https URLs"),
        ({"issuer": "https://user@id.example"}, "no query, fragment or user"),
        ({"jwks_url": "file:///etc/passwd"}, "must be URLs"),
        ({"jwks_url": "http://id.example/keys"}, "https URLs"),
        ({"tenant": "a", "tenant_claim": "org"}, "either tenant or tenant_claim"),
        ({"scopes": {"a": "classify"}}, "require scope_claim"),
        ({"role_claim": []}, "role_claim"),
        ({"audience": "x"}, "audience"),
    ],
)
def test_a_wrong_issuer_stops_the_start(monkeypatch, change, words):
    monkeypatch.setenv(ISSUERS, json.dumps([{**GOOD, **change}]))
    with pytest.raises(OperatorError, match=words) as caught:
        load_settings()
    assert ISSUERS in str(caught.value) or "Invalid settings: token: " in str(caught.value)


def test_http_is_allowed_by_a_setting(monkeypatch):
    monkeypatch.setenv(ISSUERS, json.dumps([{**GOOD, "issuer": "http://id.example"}]))
    monkeypatch.setenv("CATEGORIZER_TOKEN__ALLOW_HTTP", "true")
    assert load_settings().token.issuers


@pytest.mark.parametrize("field", ["name", "issuer"])
def test_issuers_differ_in_name_and_url(monkeypatch, field):
    other = {**GOOD, "name": "other", "issuer": "https://other.example", field: GOOD[field]}
    monkeypatch.setenv(ISSUERS, json.dumps([GOOD, other]))
    with pytest.raises(OperatorError, match=f"the same {field}"):
        load_settings()


def test_every_field_of_an_issuer_is_documented():
    page = PAGE.read_text()
    assert [name for name in IssuerSettings.model_fields if f"| `{name}` |" not in page] == []
