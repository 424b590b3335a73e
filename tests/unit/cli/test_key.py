"""Keys as the command shows them."""

from datetime import timedelta

import pytest
from image_categorizer_server import clock
from image_categorizer_server.cli.key import RoleName, _fields, _state
from image_categorizer_server.domain.access import ApiKey, Role


def key_of(expires_in=None, revoked=False):
    now = clock.now()
    return ApiKey(
        key_id="k-1",
        tenant_id="t",
        name="camera",
        role=Role.CLASSIFIER,
        prefix="ic_abcde",
        create_time=now,
        expire_time=now + timedelta(seconds=expires_in) if expires_in is not None else None,
        revoke_time=now if revoked else None,
    )


@pytest.mark.parametrize(
    ("expires_in", "revoked", "state"),
    [
        (None, False, "in force"),
        (60, False, "in force"),
        (-60, False, "expired"),
        (-60, True, "revoked"),
    ],
)
def test_the_state_of_a_key(expires_in, revoked, state):
    key = key_of(expires_in, revoked)
    assert _state(key) == state
    assert _fields(key)["state"] == state


def test_every_role_can_be_given():
    assert {name.name for name in RoleName} <= {role.name for role in Role}
