"""Connections that cross a network unencrypted are found."""

import pytest
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.hops import clear_hops, warn_of_clear_hops

BIND = {"server": {"bind": "0.0.0.0:50051"}}
GATEWAY = {"gateway": {"host": "0.0.0.0"}}
TLS = {"tls_cert_path": "/a/cert.pem", "tls_key_path": "/a/key.pem"}


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"server": {"bind": "unix:/run/server.sock"}},
        {"server": {"bind": "[::1]:50051"}},
        {**BIND, "internal_tls": {"path": "/certificates"}},
        {"gateway": {"host": "0.0.0.0", **TLS}},
        {"DATABASE_URL": "postgres://u@/db?host=/run/postgres"},
        {"DATABASE_URL": "postgres://u:p@db/x?sslmode=verify-full"},
        {"REDIS_URL": "rediss://cache:6379/0"},
        {"REDIS_URL": "unix:///run/redis.sock?db=0"},
        {"storage": {"endpoint": "https://minio:9000"}},
        {"storage": {"endpoint": "http://127.0.0.1:9000"}},
        {"client": {"base_url": "https://server:50051"}},
        {"client": {"base_url": "http://localhost:8080"}},
    ],
)
def test_what_is_encrypted_or_stays_on_the_machine_is_passed(overrides):
    assert clear_hops(Settings(**overrides), is_gateway=True) == []


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (BIND, "CATEGORIZER_INTERNAL_TLS__PATH"),
        ({"server": {"bind": "[::]:50051"}}, "CATEGORIZER_INTERNAL_TLS__PATH"),
        (GATEWAY, "CATEGORIZER_GATEWAY__TLS_CERT_PATH"),
        ({"DATABASE_URL": "postgres://u:p@db/x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgres://u:p@db/x?sslmode=require"}, "verify-full"),
        ({"DATABASE_URL": "postgres://u:p@10.0.0.7/x?sslmode=prefer"}, "verify-full"),
        ({"REDIS_URL": "redis://:p@cache:6379/0"}, "rediss://"),
        ({"storage": {"endpoint": "http://minio:9000"}}, "CATEGORIZER_STORAGE__ENDPOINT"),
        ({"client": {"base_url": "http://server:50051"}}, "CATEGORIZER_CLIENT__BASE_URL"),
    ],
)
def test_every_connection_in_clear_is_named(overrides, words):
    (found,) = clear_hops(Settings(**overrides), is_gateway=True)
    assert words in found


def test_the_environment_may_say_how_postgresql_is_verified(monkeypatch):
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert clear_hops(Settings(DATABASE_URL="postgres://u:p@db/x")) == []


@pytest.mark.parametrize("environment", ["production", "development"])
def test_production_is_warned_and_learns_no_password(caplog, environment):
    url = "postgres://u:s3cret@db/x"
    warn_of_clear_hops(Settings(environment=environment, DATABASE_URL=url))
    assert ("DATABASE_URL" in caplog.text) is (environment == "production")
    assert "s3cret" not in caplog.text
