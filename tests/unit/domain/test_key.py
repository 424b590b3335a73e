"""States and addresses of keys."""

from datetime import timedelta

import pytest
from image_categorizer_server import clock
from image_categorizer_server.domain.key import KeyState, network_of

from tests.support.keys import key_of

NOW = clock.now()


@pytest.mark.parametrize(
    ("expires_in_s", "is_revoked", "state"),
    [
        (None, False, KeyState.ACTIVE),
        (60, False, KeyState.ACTIVE),
        (0, False, KeyState.EXPIRED),
        (-60, False, KeyState.EXPIRED),
        (-60, True, KeyState.REVOKED),
        (None, True, KeyState.REVOKED),
    ],
)
def test_the_state_of_a_key(expires_in_s, is_revoked, state):
    end = None if expires_in_s is None else NOW + timedelta(seconds=expires_in_s)
    key = key_of(expire_time=end, revoke_time=NOW if is_revoked else None)
    assert key.state(NOW) is state


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        (" 192.0.2.7 ", "192.0.2.7/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_networks_have_one_spelling(text, network):
    assert str(network_of(text)) == network


@pytest.mark.parametrize("text", ["", "localhost", "192.0.2.1/24", "192.0.2.0/33", "1234", "*"])
def test_other_texts_are_not_networks(text):
    with pytest.raises(ValueError, match="."):
        network_of(text)


@pytest.mark.parametrize(
    ("networks", "address", "is_allowed"),
    [
        ([], "198.51.100.1", True),
        ([], "", True),
        (["192.0.2.0/24"], "192.0.2.255", True),
        (["192.0.2.0/24"], "2001:db8::1", False),
        (["192.0.2.0/24", "2001:db8::1"], "2001:db8::1", True),
        (["127.0.0.0/8"], "", True),
        (["::1"], "", True),
        (["10.0.0.0/8"], "", False),
    ],
)
def test_a_unix_socket_counts_as_this_machine(networks, address, is_allowed):
    key = key_of(allowed_addresses=tuple(map(network_of, networks)))
    assert key.allows(address) is is_allowed
