"""Keys as the command shows them."""

import json

import pytest
from image_categorizer_server import clock
from image_categorizer_server.cli.key import RoleName, _fields, _networks, print_new_key
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.domain.key import NewKey, network_of
from image_categorizer_server.errors import OperatorError

from tests.support.keys import key_of


def test_every_role_can_be_given():
    assert {name.name for name in RoleName} == {role.name for role in Role}


def test_a_key_is_shown_with_all_that_it_may():
    key = key_of(
        scopes=frozenset({Scope.MODELS_READ, Scope.BATCHES_READ}),
        allowed_addresses=(network_of("192.0.2.0/24"),),
        expire_time=clock.now(),
    )
    fields = _fields(key)
    assert fields["scopes"] == ["batches:read", "models:read"]
    assert fields["allowed_addresses"] == ["192.0.2.0/24"]
    assert (fields["role"], fields["state"], fields["created_by"]) == ("classifier", "EXPIRED", "")
    assert (fields["last_use_time"], fields["revoke_time"]) == (None, None)


def test_the_secret_is_in_the_json_of_a_new_key_only(capsys):
    made = NewKey("ic_secret", key_of())
    print_new_key(made, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("key") == "ic_secret"
    assert printed == _fields(made.key)
    assert "ic_secret" not in repr(made)


@pytest.mark.parametrize("text", ["office", "192.0.2.1/24"])
def test_a_wrong_address_names_the_option(text):
    with pytest.raises(OperatorError, match="--allow-address"):
        _networks([text])
