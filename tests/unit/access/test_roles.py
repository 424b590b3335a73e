"""Roles and what they may call."""

import pytest
from image_categorizer_server.access.roles import RpcAccess, authorize
from image_categorizer_server.domain.access import Principal, Role
from image_categorizer_server.errors import RoleInsufficient


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
