"""API keys through Envoy and on the command line, and where their secrets are not."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import redis
from image_categorizer import AddressNotAllowed, CredentialsInvalid, ImageCategorizationClient
from image_categorizer_server.local.installation import Installation

from tests.support.database import connect_as_owner
from tests.support.polling import wait_until
from tests.support.up import command

PATH = "/v1/keys"
ONE = f"{PATH}/{{key_id}}"


def answers(http):
    """Yields (path in the OpenAPI document, method, response) of each operation on keys."""
    made = http.post(PATH, json={"name": "dashboard", "role": "viewer", "scopes": ["models:read"]})
    yield PATH, "post", made
    own = f"{PATH}/{made.json()['key_id']}"
    yield PATH, "get", http.get(f"{PATH}?state=ACTIVE&page_size=1000")
    yield ONE, "get", http.get(own)
    body = {
        "name": "wall",
        "clear": ["scopes"],
        "allowed_addresses": ["127.0.0.0/8", "::1"],
        "expire_time": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }
    yield ONE, "patch", http.patch(own, json=body)
    yield f"{ONE}:rotate", "post", http.post(f"{own}:rotate", json={"overlap": "60s"})
    yield f"{ONE}:revoke", "post", http.post(f"{own}:revoke", json={})


def info(up, secret):
    """Returns the status with which a call with a key ends."""
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.get(f"{up.url}/v1/info", headers=headers).status_code


def test_a_key_lives_over_rest(up, http):
    found = list(answers(http))
    assert {answer.status_code for *_, answer in found} == {200}
    made, listed, shown, changed, rotated, revoked = (answer.json() for *_, answer in found)
    assert made["secret"].startswith(made["prefix"])
    assert (made["role"], made["scopes"], made["state"]) == ("viewer", ["models:read"], "ACTIVE")
    assert shown == {**made, "secret": ""}
    assert shown in listed["keys"]
    assert (changed["name"], changed["scopes"]) == ("wall", [])
    assert changed["allowed_addresses"] == ["127.0.0.0/8", "::1/128"]
    assert rotated["secret"] not in ("", made["secret"])
    assert rotated["previous_secret_expire_time"] > rotated["create_time"]
    assert revoked["state"] == "REVOKED"
    wait_until(lambda: [info(up, key["secret"]) for key in (made, rotated)] == [401, 401], 5)


def test_a_key_is_accepted_only_from_its_addresses(up, http):
    own = http.post(PATH, json={"name": "n", "role": "viewer", "allowed_addresses": ["127.0.0.1"]})
    other = http.post(
        PATH, json={"name": "n", "role": "viewer", "allowed_addresses": ["10.1.0.0/16"]}
    )
    assert info(up, own.json()["secret"]) == 200
    forged = {
        "authorization": f"Bearer {other.json()['secret']}",
        "x-client-address": "10.1.2.3",
        "x-forwarded-for": "10.1.2.3",
    }
    answer = httpx.get(f"{up.url}/v1/info", headers=forged)
    assert (answer.status_code, answer.json()["details"][0]["reason"]) == (
        403,
        "ADDRESS_NOT_ALLOWED",
    )
    with (
        ImageCategorizationClient(other.json()["secret"], up.url) as client,
        pytest.raises(AddressNotAllowed, match=r"127\.0\.0\.1"),
    ):
        client.server_info()


def test_a_body_cannot_set_what_the_server_decides(http):
    taken = http.get(PATH).json()["keys"][0]["key_id"]
    wanted = {
        "tenant_id": "other",
        "key_id": taken,
        "created_by": "somebody",
        "secret": "ic_x",
        "prefix": "ic_x",
        "state": "REVOKED",
        "revoke_time": "2026-01-01T00:00:00Z",
        "last_use_time": "2026-01-01T00:00:00Z",
    }
    made = http.post(PATH, json={"name": "n", "role": "viewer", **wanted}).json()
    assert [name for name, value in wanted.items() if made.get(name) == value] == []
    assert http.get(f"{PATH}/{made['key_id']}").json() == {**made, "secret": ""}
    answer = http.post(PATH, json={"name": "n", "role": "platform"})
    assert (answer.status_code, answer.json()["details"][0]["reason"]) == (403, "ROLE_INSUFFICIENT")
    own = http.post(PATH, json={"name": "n", "role": "viewer"}).json()
    answer = http.patch(f"{PATH}/{own['key_id']}", json={"key_id": taken, "role": "operator"})
    assert http.get(f"{PATH}/{taken}").json()["role"] != "operator"
    assert http.patch(f"{PATH}/{own['key_id']}", json={"role": "worker"}).status_code == 403


def keys(up, *words):
    """Runs a command, and returns the JSON that it prints."""
    done = command("keys", *words, "--json", "--data", up.data)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_keys_are_managed_by_the_command_line(up, http):
    made = keys(
        *(up, "create", "camera", "--role", "operator", "--expires-in-days", "30"),
        *("--scope", "models:read", "--scope", "classify", "--allow-address", "127.0.0.0/8"),
    )
    assert (made["role"], made["scopes"]) == ("operator", ["classify", "models:read"])
    assert info(up, made["key"]) == 200
    key_id = made["id"]
    changed = keys(
        up, "update", key_id, "--name", "tv", "--all-scopes", "--never-expires", "--all-addresses"
    )
    assert (changed["name"], changed["scopes"], changed["expire_time"]) == ("tv", [], None)
    rotated = keys(up, "rotate", key_id, "--overlap-hours", "0")
    wait_until(lambda: [info(up, key["key"]) for key in (made, rotated)] == [401, 200], 5)
    shown = keys(up, "show", key_id)
    assert shown in keys(up, "list")
    assert made["key"] not in json.dumps(shown)
    assert http.get(f"{PATH}/{key_id}").json()["prefix"] == rotated["key"][:8]
    assert keys(up, "revoke", key_id)["state"] == "REVOKED"
    wait_until(lambda: info(up, rotated["key"]) == 401, 5)
    refused = command("keys", "update", key_id, "--name", "x", "--data", up.data)
    assert (refused.returncode, "revoked" in refused.stderr) == (1, True)
    unknown = command("keys", "show", "nobody", "--data", up.data)
    assert (unknown.returncode, "no API key" in unknown.stderr) == (1, True)


def test_no_secret_is_in_a_table_in_redis_or_in_a_file(up, http, admin_key):
    with ImageCategorizationClient(admin_key, up.url) as client:
        made = client.keys.create("careless", "viewer")
        secrets = [made.secret, client.keys.rotate(made.key_id).secret]
        near = made.secret[:-1] + ("a" if made.secret[-1] != "a" else "b")
        for secret in (*secrets, near):
            headers = {"authorization": f"Bearer {secret}"}
            httpx.get(f"{up.url}/v1/models?api_key={secret}", headers=headers)
            httpx.post(f"{up.url}/v1/classify", headers=headers, content=b"x")
        client.keys.revoke(made.key_id)
        for secret in secrets:
            wait_until(lambda secret=secret: info(up, secret) == 401, 5)
            with (
                ImageCategorizationClient(secret, up.url) as refused,
                pytest.raises(CredentialsInvalid) as error,
            ):
                refused.server_info()
            assert secret not in str(error.value)
    needles = [secret[3:].encode() for secret in (*secrets, near)]
    addresses = Installation(up.data).addresses()
    dump = asyncio.run(dump_of(addresses.database_url))
    assert made.key_id in dump
    store = redis.Redis.from_url(addresses.redis_url)
    stored = b"".join(key + (store.dump(key) or b"") for key in store.scan_iter(count=1000))
    files = [path for path in up.data.rglob("*") if path.is_file()]
    assert any("log" in path.name for path in files)
    leaks = [str(path) for path in files if any(needle in path.read_bytes() for needle in needles)]
    assert leaks == []
    assert not any(needle in stored or needle in dump.encode() for needle in needles)


async def dump_of(url):
    """Returns all rows of all tables as text; the pages are in the files then, too."""
    connection = await connect_as_owner(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname='public'")
        rows = [await connection.fetch(f'SELECT * FROM "{row["tablename"]}"') for row in tables]
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    return "\n".join(map(str, rows))
