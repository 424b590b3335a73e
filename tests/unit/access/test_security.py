"""Keys, credentials, roles."""

import re
from datetime import timedelta

import pytest
from image_categorizer_server import clock
from image_categorizer_server.access.api_key import is_well_formed, new_key, sha256_of
from image_categorizer_server.access.authenticator import Authenticator
from image_categorizer_server.access.roles import RpcAccess, authorize
from image_categorizer_server.domain.access import ApiKey, Principal, Role
from image_categorizer_server.errors import (
    CredentialsInvalid,
    CredentialsMissing,
    DependencyDown,
    RoleInsufficient,
)


def test_keys_have_the_form_of_the_contract():
    keys = {new_key() for _ in range(50)}
    assert len(keys) == 50
    assert all(re.fullmatch(r"ic_[0-9A-Za-z]{49}", key) and is_well_formed(key) for key in keys)


def test_a_changed_character_breaks_the_checksum():
    key = new_key()
    for at in range(len("ic_"), len(key)):
        changed = key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1 :]
        assert not is_well_formed(changed)


@pytest.mark.parametrize("text", ["", "ic_", "ic_é", "x" * 52, new_key() + "x", new_key()[3:]])
def test_other_texts_are_no_keys(text):
    assert not is_well_formed(text)


class Rows:
    """Looks keys up in memory, and counts how often it was asked."""

    def __init__(self, *keys):
        self.by_hash = dict(keys)
        self.asked = 0

    async def find(self, secret_sha256):
        self.asked += 1
        return self.by_hash.get(secret_sha256)


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
    authenticator = Authenticator(rows.find, cache_s=60)
    for header in (f"Bearer {key}", f"Bearer {key}"):
        assert await authenticator.authenticate(header) == Principal(
            "k1", "default", Role.CLASSIFIER
        )
    assert rows.asked == 1


@pytest.mark.parametrize("header", [None, ""])
async def test_no_header_is_missing_credentials(header):
    with pytest.raises(CredentialsMissing, match="Bearer"):
        await Authenticator(Rows().find, cache_s=1).authenticate(header)


@pytest.mark.parametrize(
    "header", ["ic_x", "Basic dTpw", "Bearer", "Bearer ic_wrong", "Bearer ic_" + "a" * 49]
)
async def test_a_malformed_key_never_reaches_the_database(header):
    rows = Rows()
    with pytest.raises(CredentialsInvalid):
        await Authenticator(rows.find, cache_s=1).authenticate(header)
    assert rows.asked == 0


@pytest.mark.parametrize(
    "key_row",
    [None, row(revoke_time=clock.now()), row(expire_time=clock.now() - timedelta(seconds=1))],
    ids=["unknown", "revoked", "expired"],
)
async def test_keys_not_in_force_are_refused_alike(key_row):
    key = new_key()
    authenticator = Authenticator(Rows((sha256_of(key), key_row)).find, cache_s=60)
    with pytest.raises(CredentialsInvalid, match="^the API key is not valid$"):
        await authenticator.authenticate(f"Bearer {key}")


async def test_a_remembered_key_survives_a_lost_database_but_expires_on_time():
    key = new_key()
    rows = Rows((sha256_of(key), row(expire_time=clock.now() + timedelta(seconds=0.2))))
    authenticator = Authenticator(rows.find, cache_s=60)
    await authenticator.authenticate(f"Bearer {key}")

    async def down(_):
        raise DependencyDown("the database does not answer")

    authenticator._find_key = down
    await authenticator.authenticate(f"Bearer {key}")
    with pytest.raises(DependencyDown):
        await authenticator.authenticate(f"Bearer {new_key()}")


def principal(role):
    return Principal("k", "default", role)


@pytest.mark.parametrize("required", [role for role in Role if role is not Role.WORKER])
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.WORKER])
def test_a_role_may_do_what_lower_roles_may(role, required):
    rpc = RpcAccess("GetBatch", required)
    if role >= required:
        authorize(principal(role), rpc)
    else:
        with pytest.raises(
            RoleInsufficient, match=f"GetBatch; it requires '{required.name.lower()}'"
        ):
            authorize(principal(role), rpc)


def test_workers_may_call_only_what_is_open_to_them():
    authorize(principal(Role.WORKER), RpcAccess("ClassifyStream", Role.CLASSIFIER, True))
    with pytest.raises(RoleInsufficient, match="'worker' may not call GetBatch"):
        authorize(principal(Role.WORKER), RpcAccess("GetBatch", Role.VIEWER))


def test_public_rpcs_are_open_to_every_role():
    for role in Role:
        authorize(principal(role), RpcAccess("GetLiveness", None))
