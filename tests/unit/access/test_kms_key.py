"""Keys of key-management services: binding, keeping, outages, names."""

import asyncio
import os
import threading

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from image_categorizer_server.access.key_encryption import key_encryption, new_key
from image_categorizer_server.access.kms.key import PAUSE_S, ServiceKey
from image_categorizer_server.access.kms.service import KeyRefused, KeyServiceDown
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.encryption import EncryptionSettings

SECRET, CONTEXT = bytes(range(32)), b"data key 1 of tenant a"
KEEP_S = 100.0
AWS = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
NAMES = [
    AWS,
    "https://photos.vault.azure.net/keys/data-keys/0123456789abcdef0123456789abcdef",
    "vault:transit/data-keys",
    "vault:team/transit/data-keys",
]
NOT_NAMES = [
    "arn:aws:kms:eu-central-1:123456789012:alias/photos",  # may point elsewhere tomorrow
    "https://photos.vault.azure.net/keys/data-keys",  # so may the newest version
    "http://photos.vault.azure.net/keys/data-keys/0123456789abcdef0123456789abcdef",
    "vault:data-keys",
    "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
]


class Safe:
    """A service in this process, whose operator can do what operators do."""

    def __init__(self):
        self.key = AESGCM(AESGCM.generate_key(256))
        self.decrypted = 0
        self.is_down = self.is_disabled = False
        self.hangs = threading.Event()
        self.hangs.set()

    def fail(self):
        self.is_down = True

    def recover(self):
        self.is_down = False

    def disable(self):
        self.is_disabled = True

    def _check(self):
        self.hangs.wait(10)
        if self.is_down:
            raise KeyServiceDown("503")
        if self.is_disabled:
            raise KeyRefused("DisabledException")

    def encrypt(self, plaintext):
        self._check()
        nonce = os.urandom(12)
        return nonce + self.key.encrypt(nonce, plaintext, None)

    def decrypt(self, ciphertext):
        self._check()
        self.decrypted += 1
        try:
            return self.key.decrypt(ciphertext[:12], ciphertext[12:], None)
        except (InvalidTag, ValueError):
            raise KeyRefused("InvalidCiphertextException") from None


class Now:
    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s

    def be(self, s):
        self.s = s


@pytest.fixture
def safe():
    return Safe()


@pytest.fixture
def now():
    return Now()


def key_of(safe, now, timeout_s=5.0):
    return ServiceKey("the-key", safe, timeout_s, KEEP_S, now)


async def test_a_wrapped_key_belongs_to_its_place(safe, now):
    wrapped = await key_of(safe, now).wrap(SECRET, CONTEXT)
    assert SECRET not in wrapped
    other = key_of(safe, now)
    assert await other.unwrap(wrapped, CONTEXT) == SECRET
    with pytest.raises(OperatorError, match="another's place"):
        await other.unwrap(wrapped, b"data key 1 of tenant b")
    with pytest.raises(OperatorError, match="refuses to use the-key: InvalidCiphertext"):
        await other.unwrap(wrapped[:-1], CONTEXT)


async def test_the_service_is_asked_once_for_many_uses_at_once(safe, now):
    wrapped = await key_of(safe, now).wrap(SECRET, CONTEXT)
    other, before = key_of(safe, now), safe.decrypted
    found = await asyncio.gather(*(other.unwrap(wrapped, CONTEXT) for _ in range(50)))
    assert set(found) == {SECRET}
    assert safe.decrypted == before + 1


async def test_keys_in_use_go_on_during_an_outage_and_not_for_ever(safe, now):
    key = key_of(safe, now)
    wrapped = await key.wrap(SECRET, CONTEXT)
    safe.fail()
    for time_s in (1.0, KEEP_S / 2 + 1, KEEP_S - 1):
        now.be(time_s)
        assert await key.unwrap(wrapped, CONTEXT) == SECRET
    now.be(KEEP_S + PAUSE_S)
    with pytest.raises(DependencyDown, match="key-management service does not answer"):
        await key.unwrap(wrapped, CONTEXT)
    safe.recover()
    now.be(KEEP_S + 2 * PAUSE_S)
    assert await key.unwrap(wrapped, CONTEXT) == SECRET


async def test_a_key_that_was_disabled_opens_nothing_after_half_of_the_time(safe, now):
    key = key_of(safe, now)
    wrapped = await key.wrap(SECRET, CONTEXT)
    safe.disable()
    now.be(KEEP_S / 2)
    for _ in range(2):
        with pytest.raises(OperatorError, match="DisabledException"):
            await key.unwrap(wrapped, CONTEXT)


async def test_a_service_that_hangs_costs_one_time_limit(safe, now):
    key = key_of(safe, now, timeout_s=0.1)
    safe.hangs.clear()
    try:
        async with asyncio.timeout(2):
            with pytest.raises(DependencyDown):
                await key.wrap(SECRET, CONTEXT)
            for _ in range(100):  # are not even sent
                with pytest.raises(DependencyDown):
                    await key.wrap(SECRET, CONTEXT)
    finally:
        safe.hangs.set()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_services_are_keys(name, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert key_encryption(EncryptionSettings(keys=name)) is not None


@pytest.mark.parametrize("name", NOT_NAMES)
def test_what_may_mean_another_key_tomorrow_is_refused(name):
    with pytest.raises(OperatorError, match="nor the name of a key"):
        key_encryption(EncryptionSettings(keys=name))


async def test_keys_move_from_a_file_to_a_service_and_back():
    local = new_key()
    before = key_encryption(EncryptionSettings(keys=local))
    wrapped = await before.wrap(SECRET, CONTEXT)
    both = key_encryption(EncryptionSettings(keys=f"{NAMES[2]},{local}"))
    assert both.current_id != before.current_id
    assert await both.unwrap(before.current_id, wrapped, CONTEXT) == SECRET
    back = key_encryption(EncryptionSettings(keys=f"{local},{NAMES[2]}"))
    assert back.current_id == before.current_id
