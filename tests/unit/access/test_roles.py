"""Roles and what they may call."""

import pytest
from image_categorizer_server.access.roles import (
    RpcAccess,
    authorize,
    authorize_grant,
    authorize_role,
)
from image_categorizer_server.domain.access import Principal, Role, Scope
from image_categorizer_server.errors import RoleInsufficient


def principal(role, *scopes):
    return Principal("k", "default", role, frozenset(scopes))


@pytest.mark.parametrize("required", [role for role in Role if role is not Role.WORKER])
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.WORKER])
def test_a_role_may_do_what_lower_roles_may(role, required):
    rpc = RpcAccess("GetBatch", required, Scope.BATCHES_READ)
    if role >= required:
        authorize(principal(role), rpc)
    else:
        with pytest.raises(
            RoleInsufficient, match=f"GetBatch; it requires '{required.name.lower()}'"
        ):
            authorize(principal(role), rpc)


def test_workers_may_call_only_what_is_open_to_them():
    authorize(
        principal(Role.WORKER), RpcAccess("ClassifyStream", Role.CLASSIFIER, Scope.CLASSIFY, True)
    )
    with pytest.raises(RoleInsufficient, match="'worker' may not call GetBatch"):
        authorize(principal(Role.WORKER), RpcAccess("GetBatch", Role.VIEWER))


def test_public_rpcs_are_open_to_every_role():
    for role in Role:
        authorize(principal(role), RpcAccess("GetLiveness", None))


def test_credentials_with_scopes_permit_only_these():
    rpc = RpcAccess("GetBatch", Role.VIEWER, Scope.BATCHES_READ)
    authorize(principal(Role.VIEWER, Scope.BATCHES_READ, Scope.CLASSIFY), rpc)
    with pytest.raises(RoleInsufficient, match="it requires 'batches:read'"):
        authorize(principal(Role.PLATFORM, Scope.CLASSIFY), rpc)


def test_scopes_do_not_widen_a_role():
    rpc = RpcAccess("CreateBatch", Role.CLASSIFIER, Scope.BATCHES_WRITE)
    with pytest.raises(RoleInsufficient, match="it requires 'classifier'"):
        authorize(principal(Role.VIEWER, Scope.BATCHES_WRITE), rpc)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("own", list(Role))
def test_nobody_gives_a_role_above_their_own_and_only_the_platform_gives_worker(own, role):
    permitted = own is Role.PLATFORM or Role.WORKER < role <= own
    for check in (authorize_role, lambda caller, role: authorize_grant(caller, role, frozenset())):
        if permitted:
            check(principal(own), role)
        else:
            with pytest.raises(RoleInsufficient, match=f"the role '{role.name.lower()}'"):
                check(principal(own), role)


@pytest.mark.parametrize(
    ("own", "given", "is_permitted"),
    [
        ([], [], True),
        ([], [Scope.CLASSIFY], True),
        ([Scope.KEYS_WRITE, Scope.CLASSIFY], [Scope.CLASSIFY], True),
        ([Scope.KEYS_WRITE], [Scope.KEYS_WRITE], True),
        ([Scope.KEYS_WRITE], [Scope.CLASSIFY], False),
        ([Scope.KEYS_WRITE], [Scope.KEYS_WRITE, Scope.CLASSIFY], False),
        ([Scope.KEYS_WRITE], [], False),
    ],
)
def test_nobody_gives_scopes_that_they_do_not_have(own, given, is_permitted):
    caller = principal(Role.ADMIN, *own)
    if is_permitted:
        authorize_grant(caller, Role.VIEWER, frozenset(given))
    else:
        with pytest.raises(RoleInsufficient, match="limited to scopes"):
            authorize_grant(caller, Role.VIEWER, frozenset(given))


def test_an_rpc_of_any_scope_is_permitted_by_each():
    rpc = RpcAccess("GetCaller", Role.VIEWER)
    for scope in Scope:
        authorize(principal(Role.VIEWER, scope), rpc)
