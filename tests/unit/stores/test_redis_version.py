"""Which releases of Redis and Valkey should be replaced."""

import pytest
from image_categorizer_server.stores.redis_version import vulnerable_release

REDIS = {"6.0.20": True, "6.2.14": True, "6.2.19": True, "7.0.15": True, "7.2.10": True}
REDIS |= {"7.4.5": True, "8.0.3": True, "8.2.1": True}
REDIS |= {"6.2.20": False, "7.2.11": False, "7.4.6": False, "8.0.4": False, "8.2.2": False}
REDIS |= {"8.4.0": False, "9.0.0": False, "": False, "unstable": False}
VALKEY = {"7.2.10": True, "8.0.5": True, "8.1.3": True, "8.1.4": False, "9.0.0": False}


@pytest.mark.parametrize("version", REDIS)
def test_old_releases_of_redis_are_named(version):
    found = vulnerable_release({"redis_version": version})
    assert found == (f"Redis {version}" if REDIS[version] else None)


@pytest.mark.parametrize("version", VALKEY)
def test_valkey_has_versions_of_its_own(version):
    found = vulnerable_release({"redis_version": "7.2.4", "valkey_version": version})
    assert found == (f"Valkey {version}" if VALKEY[version] else None)
