"""Credentials become principals."""

from datetime import timedelta

import pytest
from image_categorizer_server import clock
from image_categorizer_server.access.api_key import new_key, sha256_of
from image_categorizer_server.access.authenticator import Authenticator
from image_categorizer_server.access.key_verifier import KeyVerifier
from image_categorizer_server.access.tenant_gate import TenantGate
from image_categorizer_server.domain.access import ApiKey, Principal, Role
from image_categorizer_server.domain.tenant import TenantState
from image_categorizer_server.errors import (
    CredentialsInvalid,
    CredentialsMissing,
    DependencyDown,
    TenantSuspended,
)

ADDRESS = "192.0.2.1"


class Rows:
    """Finds keys in memory, and counts the queries."""

    def __init__(self, *keys, queries_until_down=None):
        self.by_hash = dict(keys)
        self.queries_until_down = queries_until_down
        self.queries = 0

    async def find(self, secret_sha256):
        if self.queries == self.queries_until_down:
            raise DependencyDown("the database does not answer")
        self.queries += 1
        return self.by_hash.get(secret_sha256)


def of_keys(rows):
    return Authenticator(KeyVerifier(rows.find, cache_s=60), TenantGate(state_of, cache_s=60))


async def state_of(tenant_id):
    return {"default": TenantState.ACTIVE, "late": TenantState.SUSPENDED}.get(
        tenant_id, TenantState.DELETING if tenant_id == "gone" else None
    )


def row(**changes):
    fields = {
        "key_id": "k1",
        "tenant_id": "default",
        "name": "n",
        "role": Role.CLASSIFIER,
        "prefix": "ic_abcde",
        "create_time": clock.now(),
        "expire_time": None,
        "revoke_time": None,
    }
    return ApiKey(**(fields | changes))


async def test_a_good_key_is_looked_up_once():
    key = new_key()
    rows = Rows((sha256_of(key), row()))
    authenticator = of_keys(rows)
    for header in (f"Bearer {key}", f"Bearer {key}"):
        assert await authenticator.authenticate(header, ADDRESS) == Principal(
            "k1", "default", Role.CLASSIFIER
        )
    assert rows.queries == 1


@pytest.mark.parametrize("header", [None, ""])
async def test_no_header_is_missing_credentials(header):
    with pytest.raises(CredentialsMissing, match="Bearer"):
        await of_keys(Rows()).authenticate(header, ADDRESS)


@pytest.mark.parametrize(
    "header", ["ic_x", "Basic dTpw", "Bearer", "Bearer ic_wrong", "Bearer ic_" + "a" * 49]
)
async def test_a_malformed_key_never_reaches_the_database(header):
    rows = Rows()
    with pytest.raises(CredentialsInvalid):
        await of_keys(rows).authenticate(header, ADDRESS)
    assert rows.queries == 0


@pytest.mark.parametrize(
    "key_row",
    [None, row(revoke_time=clock.now()), row(expire_time=clock.now() - timedelta(seconds=1))],
    ids=["unknown", "revoked", "expired"],
)
async def test_keys_not_in_force_are_refused_alike(key_row):
    key = new_key()
    authenticator = of_keys(Rows((sha256_of(key), key_row)))
    with pytest.raises(CredentialsInvalid, match="^the API key is not valid$"):
        await authenticator.authenticate(f"Bearer {key}", ADDRESS)


async def test_a_remembered_key_survives_a_lost_database_but_expires_on_time():
    key = new_key()
    key_row = row(expire_time=clock.now() + timedelta(seconds=0.2))
    rows = Rows((sha256_of(key), key_row), queries_until_down=1)
    authenticator = of_keys(rows)
    await authenticator.authenticate(f"Bearer {key}", ADDRESS)
    await authenticator.authenticate(f"Bearer {key}", ADDRESS)
    with pytest.raises(DependencyDown):
        await authenticator.authenticate(f"Bearer {new_key()}", ADDRESS)
    clock.shift(1)
    try:
        with pytest.raises(CredentialsInvalid):
            await authenticator.authenticate(f"Bearer {key}", ADDRESS)
    finally:
        clock.shift(0)


@pytest.mark.parametrize("tenant_id", ["gone", "unknown", "*", ""])
async def test_keys_of_a_tenant_that_is_gone_are_refused_like_unknown_ones(tenant_id):
    key = new_key()
    authenticator = of_keys(Rows((sha256_of(key), row(tenant_id=tenant_id))))
    with pytest.raises(CredentialsInvalid, match="^the API key is not valid$"):
        await authenticator.authenticate(f"Bearer {key}", ADDRESS)


async def test_keys_of_a_suspended_tenant_are_refused_with_the_reason():
    key = new_key()
    authenticator = of_keys(Rows((sha256_of(key), row(tenant_id="late"))))
    with pytest.raises(TenantSuspended, match="suspended"):
        await authenticator.authenticate(f"Bearer {key}", ADDRESS)
