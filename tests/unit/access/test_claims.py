"""Claims become tenants, roles and scopes."""

import pytest
from image_categorizer_server.access.claims import ClaimMapping
from image_categorizer_server.access.jws import TokenRefused
from image_categorizer_server.domain.access import Principal, Role, Scope
from image_categorizer_server.errors import OperatorError

from tests.support.issuer import claims, issuer_settings


def principal(settings, **changes):
    notes = []
    return ClaimMapping(issuer_settings(**settings)).principal(claims(**changes), notes.append)


def test_without_more_settings_a_caller_belongs_to_the_default_tenant():
    assert principal({}) == Principal("main:ada", "default", Role.CLASSIFIER)


def test_the_tenant_is_a_constant_or_a_claim():
    assert principal({"tenant": "acme"}).tenant_id == "acme"
    assert principal({"tenant_claim": "org"}, org="acme").tenant_id == "acme"
    path = {"tenant_claim": ["org", "id"]}
    assert principal(path, org={"id": "acme"}).tenant_id == "acme"


@pytest.mark.parametrize(
    "value", [None, "", "A", "../x", "a b", "a\n", ["acme"], 7, {"id": "acme"}, "a" * 65]
)
def test_a_claim_that_names_no_tenant_is_refused(value):
    with pytest.raises(TokenRefused, match="tenant"):
        principal({"tenant_claim": "org"}, org=value)


def test_the_highest_role_of_all_values_wins():
    roles = {"w": "worker", "v": "viewer", "a": "admin", "p": "platform"}
    for values, role in (
        (["v", "a"], Role.ADMIN),
        (["a", "v", "other"], Role.ADMIN),
        (["w", "v"], Role.VIEWER),
        (["w"], Role.WORKER),
        (["p", "a"], Role.PLATFORM),
        ("v", Role.VIEWER),
    ):
        assert principal({"roles": roles}, roles=values).role is role


@pytest.mark.parametrize("values", [None, [], ["admin"], "admin", ["platform"], "x ic-admin", 7])
def test_a_token_without_a_mapped_role_is_refused(values):
    """Also one whose roles are called as ours: only the settings map."""
    with pytest.raises(TokenRefused, match="'roles' is mapped"):
        principal({}, roles=values)


def test_roles_may_be_anywhere_and_a_name_may_have_dots():
    nested = {"role_claim": ["realm_access", "roles"]}
    found = principal(nested, roles=None, realm_access={"roles": ["ic-admin"]})
    assert found.role is Role.ADMIN
    url = {"role_claim": "https://acme.example/roles"}
    given = {"https://acme.example/roles": ["ic-admin"], "roles": None}
    assert principal(url, **given).role is Role.ADMIN


def test_an_address_gives_a_role_only_if_it_is_verified():
    settings = {"role_claim": "email", "roles": {"ada@acme.example": "admin"}}
    assert principal(settings, email="ada@acme.example", email_verified=True).role is Role.ADMIN
    for verified in (False, None, "true", 1):
        with pytest.raises(TokenRefused, match="not verified"):
            principal(settings, email="ada@acme.example", email_verified=verified)


def test_scopes_limit_only_if_the_settings_say_so():
    assert principal({}, scope="classify").scopes == frozenset()
    limited = {"scope_claim": "scope"}
    found = principal(limited, scope="openid classify batches:read")
    assert found.scopes == {Scope.CLASSIFY, Scope.BATCHES_READ}
    mapped = {"scope_claim": "scp", "scopes": {"Pictures.Classify": "classify"}}
    assert principal(mapped, scp="Pictures.Classify batches:read").scopes == {Scope.CLASSIFY}
    assert principal(mapped, scp=["Pictures.Classify"]).scopes == {Scope.CLASSIFY}


@pytest.mark.parametrize("scope", [None, "", "openid", "CLASSIFY", 7, ["classify "]])
def test_a_token_without_a_scope_of_ours_is_refused_not_unlimited(scope):
    with pytest.raises(TokenRefused, match="scope"):
        principal({"scope_claim": "scope"}, scope=scope)


@pytest.mark.parametrize("subject", ["a" * 256, "a\nb", " a", "", "ä", 7, None])
def test_the_name_of_a_caller_can_be_printed(subject):
    with pytest.raises(TokenRefused, match="'sub'"):
        principal({}, sub=subject)


def test_settings_name_roles_and_scopes_that_exist():
    with pytest.raises(OperatorError, match="'root' is not a role: worker, viewer"):
        ClaimMapping(issuer_settings(roles={"x": "root"}))
    with pytest.raises(OperatorError, match="'all' is not a scope: classify"):
        ClaimMapping(issuer_settings(scope_claim="scope", scopes={"x": "all"}))
