"""The form of API keys."""

import re

import pytest
from image_categorizer_server.access.api_key import is_well_formed, new_key


def test_keys_have_the_form_of_the_contract():
    keys = {new_key() for _ in range(50)}
    assert len(keys) == 50
    assert all(re.fullmatch(r"ic_[0-9A-Za-z]{49}", key) and is_well_formed(key) for key in keys)


def test_a_changed_character_makes_the_checksum_wrong():
    key = new_key()
    for at in range(len("ic_"), len(key)):
        changed = key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1 :]
        assert not is_well_formed(changed)


@pytest.mark.parametrize(
    "text",
    ["", "ic_", "ic_é", "x" * 52, new_key() + "x", new_key()[3:]],
    ids=["empty", "prefix", "accent", "letters", "longer", "shorter"],
)
def test_other_texts_are_not_keys(text):
    assert not is_well_formed(text)
