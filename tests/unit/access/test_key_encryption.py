"""Key-encryption keys, from a file or the environment."""

import base64

import pytest
from image_categorizer_server.access.key_encryption import key_encryption, new_key
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.encryption import EncryptionSettings

SECRET = bytes(range(32))
FIRST, SECOND = new_key(), new_key()


def keys(*texts):
    return key_encryption(EncryptionSettings(keys=",".join(texts)))


async def test_a_data_key_is_unwrapped_by_the_key_that_wrapped_it():
    before = keys(FIRST)
    wrapped = await before.wrap(SECRET, b"here")
    assert SECRET not in wrapped
    after = keys(SECOND, FIRST)
    assert after.current_id != before.current_id
    assert await after.unwrap(before.current_id, wrapped, b"here") == SECRET
    with pytest.raises(OperatorError, match=before.current_id):
        await keys(SECOND).unwrap(before.current_id, wrapped, b"here")


async def test_a_data_key_is_bound_to_its_place():
    only = keys(FIRST)
    wrapped = await only.wrap(SECRET, b"here")
    for kek_id, content, context in (
        (only.current_id, wrapped, b"there"),
        (only.current_id, wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"here"),
        (only.current_id, wrapped[:12], b"here"),
        (only.current_id, b"", b"here"),
    ):
        with pytest.raises(OperatorError, match="damaged"):
            await only.unwrap(kek_id, content, context)


def test_keys_come_from_a_file_with_one_a_line(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{FIRST}\n{SECOND}\n")
    found = key_encryption(EncryptionSettings(keys_path=str(file)))
    assert found.current_id == keys(FIRST).current_id


def test_without_a_key_encryption_is_off():
    assert key_encryption(EncryptionSettings()) is None


@pytest.mark.parametrize(
    "text",
    ["x", base64.b64encode(bytes(31)).decode(), f"{FIRST},secret-word", FIRST[:-1]],
    ids=["short", "31 bytes", "second", "cut"],
)
def test_what_is_no_key_is_refused_without_being_repeated(text):
    with pytest.raises(OperatorError, match="not 32 bytes in base64") as caught:
        keys(text)
    assert text not in str(caught.value)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_file_without_a_key_stops_the_start(tmp_path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OperatorError, match="CATEGORIZER_ENCRYPTION__KEYS_PATH"):
        key_encryption(EncryptionSettings(keys_path=str(file)))


def test_settings_do_not_print_a_key():
    assert FIRST not in repr(EncryptionSettings(keys=FIRST))
