"""Credentials become principals."""

import pytest
from image_categorizer_server.access.api_key import new_key, sha256_of
from image_categorizer_server.access.authenticator import Authenticator
from image_categorizer_server.access.tenant_gate import TenantGate
from image_categorizer_server.domain.access import Principal, Role
from image_categorizer_server.domain.tenant import TenantState
from image_categorizer_server.errors import (
    CredentialsInvalid,
    CredentialsMissing,
    TenantSuspended,
)

from tests.support.keys import Rows, key_of, verifier_of

ADDRESS = "192.0.2.1"


class Tenants:
    """Knows the states of tenants, and counts the queries."""

    def __init__(self):
        self.states = {"default": TenantState.ACTIVE, "late": TenantState.SUSPENDED}
        self.states["gone"] = TenantState.DELETING
        self.queries = 0

    async def state_of(self, tenant_id):
        self.queries += 1
        return self.states.get(tenant_id)


def authenticator_of(rows):
    return Authenticator(verifier_of(rows), TenantGate(Tenants().state_of, cache_s=60))


async def test_a_key_is_the_caller_it_belongs_to():
    key = new_key()
    authenticator = authenticator_of(Rows((sha256_of(key), key_of())))
    for header in (f"Bearer {key}", f"bearer  {key} "):
        assert await authenticator.authenticate(header, ADDRESS) == Principal(
            "k1", "default", Role.CLASSIFIER
        )


@pytest.mark.parametrize("header", [None, ""])
async def test_no_header_is_missing_credentials(header):
    with pytest.raises(CredentialsMissing, match="Bearer"):
        await authenticator_of(Rows()).authenticate(header, ADDRESS)


@pytest.mark.parametrize(
    "header", ["ic_x", "Basic dTpw", "Bearer", "Bearer ic_wrong", "Bearer ic_" + "a" * 49]
)
async def test_a_malformed_key_never_reaches_the_database(header):
    rows = Rows()
    with pytest.raises(CredentialsInvalid):
        await authenticator_of(rows).authenticate(header, ADDRESS)
    assert rows.queries == 0


@pytest.mark.parametrize("tenant_id", ["gone", "unknown", "*", ""])
async def test_keys_of_a_tenant_that_is_gone_are_refused_like_unknown_ones(tenant_id):
    key = new_key()
    authenticator = authenticator_of(Rows((sha256_of(key), key_of(tenant_id=tenant_id))))
    with pytest.raises(CredentialsInvalid, match="^the API key is not valid$"):
        await authenticator.authenticate(f"Bearer {key}", ADDRESS)


async def test_keys_of_a_suspended_tenant_are_refused_with_the_reason():
    key = new_key()
    authenticator = authenticator_of(Rows((sha256_of(key), key_of(tenant_id="late"))))
    with pytest.raises(TenantSuspended, match="suspended"):
        await authenticator.authenticate(f"Bearer {key}", ADDRESS)


async def test_the_state_of_a_tenant_is_looked_up_again_after_a_change():
    tenants = Tenants()
    gate = TenantGate(tenants.state_of, cache_s=60)
    await gate.check("default", "not valid")
    tenants.states["default"] = TenantState.SUSPENDED
    await gate.check("default", "not valid")
    assert tenants.queries == 1
    for forget in (lambda: gate.forget("default"), gate.forget_all):
        forget()
        with pytest.raises(TenantSuspended):
            await gate.check("default", "not valid")
    assert tenants.queries == 3
