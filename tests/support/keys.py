"""API keys for tests of what verifies them."""

from image_categorizer_server import clock
from image_categorizer_server.access.guesses import Guesses
from image_categorizer_server.access.key_uses import KeyUses
from image_categorizer_server.access.key_verifier import KeyVerifier
from image_categorizer_server.domain.access import DEFAULT_TENANT, Role
from image_categorizer_server.domain.key import ApiKey, FoundKey, KeyState
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.services.key import ApiKeys, operator
from image_categorizer_server.settings.access import SecuritySettings


def key_of(**changes):
    fields = {
        "key_id": "k1",
        "tenant_id": "default",
        "name": "camera",
        "role": Role.CLASSIFIER,
        "prefix": "ic_abcde",
        "create_time": clock.now(),
    }
    return ApiKey(**(fields | changes))


class Rows:
    """Finds keys in memory, and counts the queries."""

    def __init__(self, *keys, queries_until_down=None):
        self.by_hash = {
            sha256: FoundKey(found) if isinstance(found, ApiKey) else found
            for sha256, found in keys
        }
        self.queries_until_down = queries_until_down
        self.queries = 0

    async def find(self, secret_sha256):
        if self.queries == self.queries_until_down:
            raise DependencyDown("the database does not answer")
        self.queries += 1
        return self.by_hash.get(secret_sha256)


class Written:
    """Takes what is written about the uses of keys."""

    def __init__(self):
        self.uses = []
        self.is_down = False

    def goes_down(self):
        self.is_down = True

    def comes_back(self):
        self.is_down = False

    async def write(self, uses):
        if self.is_down:
            raise DependencyDown("the database does not answer")
        self.uses.append(dict(uses))


def verifier_of(rows, uses=None, cache_s=60, max_unknown=1_000_000):
    uses = uses or KeyUses(Written().write, interval_s=60)
    return KeyVerifier(rows.find, cache_s, Guesses(max_unknown), uses)


async def revoke_all():
    """Revokes every active key of the default tenant."""
    keys = ApiKeys(SecuritySettings())
    for key in (await keys.list_page(DEFAULT_TENANT, KeyState.ACTIVE)).items:
        await keys.revoke(operator(), key.key_id)
