"""Guesses are counted by address."""

import pytest
from image_categorizer_server.access.guesses import MAX_ADDRESSES, Guesses
from image_categorizer_server.errors import CredentialsInvalid


def used_up(guesses, address):
    for _ in range(3):
        guesses.check(address)
        guesses.add(address)
    with pytest.raises(CredentialsInvalid, match="too many invalid keys"):
        guesses.check(address)


def test_an_address_has_so_many_guesses_a_minute():
    guesses = Guesses(3)
    used_up(guesses, "192.0.2.1")
    guesses.check("192.0.2.2")


def test_a_network_of_ipv6_is_one_address():
    guesses = Guesses(3)
    used_up(guesses, "2001:db8::1")
    with pytest.raises(CredentialsInvalid):
        guesses.check("2001:db8::ffff:1")
    guesses.check("2001:db8:0:1::1")


def test_callers_on_this_machine_are_not_limited():
    guesses = Guesses(1)
    for _ in range(5):
        guesses.add("")
        guesses.check("")


def test_the_number_of_addresses_is_bounded():
    guesses = Guesses(1)
    for number in range(MAX_ADDRESSES + 100):
        guesses.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(guesses) == MAX_ADDRESSES
