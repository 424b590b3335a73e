"""Tenants through Envoy: the platform manages them, and each sees only what it has."""

import base64
import json

import httpx
import pytest
from image_categorizer import (
    BatchNotFound,
    CredentialsInvalid,
    ImageCategorizationClient,
    TenantSuspended,
)

from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.up import command

PATH = "/v1/tenants"
REFUSED_S = 5.0


def answers(platform):
    """Yields (path in the OpenAPI document, method, response) of each operation on tenants."""
    one = f"{PATH}/{{tenant_id}}"
    yield PATH, "post", platform.post(PATH, json={"tenant_id": "globex", "display_name": "Globex"})
    yield PATH, "get", platform.get(PATH)
    yield one, "get", platform.get(f"{PATH}/globex")
    limits = {"images_per_day": 1000}
    yield one, "patch", platform.patch(f"{PATH}/globex", json={"limits": limits})
    yield f"{one}:suspend", "post", platform.post(f"{PATH}/globex:suspend", json={})
    yield f"{one}:resume", "post", platform.post(f"{PATH}/globex:resume", json={})
    yield one, "delete", platform.delete(f"{PATH}/globex")


@pytest.fixture(scope="module")
def acme(up):
    """The key of an admin of another tenant, which the command line creates."""
    words = "tenants", "create", "acme", "--admin-key", "--json", "--data", up.data
    created = command(*words)
    assert created.returncode == 0, created.stderr
    yield str(json.loads(created.stdout)["key"])
    assert command("tenants", "delete", "acme", "--yes", "--data", up.data).returncode == 0


def client_of(up, key):
    return ImageCategorizationClient(key, up.url)


def test_tenants_do_not_see_one_another(up, http, acme):
    body = {"items": [{"image": base64.b64encode(jpeg()).decode()}]}
    theirs = http.post("/v1/batch", json=body).json()["batch_id"]
    with client_of(up, acme) as client:
        assert list(client.batches.list()) == []
        with pytest.raises(BatchNotFound) as caught:
            client.batches.get(theirs)
    absent = "b-" + "x" * (len(theirs) - 2)
    headers = {"authorization": f"Bearer {acme}", "x-request-id": "one-for-both"}
    found = [httpx.get(f"{up.url}/v1/batch/{name}", headers=headers) for name in (theirs, absent)]
    assert found[0].status_code == 404
    assert found[0].json() == found[1].json()
    timing = {"date", "x-envoy-upstream-service-time"}
    kept = [[pair for pair in f.headers.items() if pair[0] not in timing] for f in found]
    assert kept[0] == kept[1]
    assert theirs not in caught.value.message


def test_a_batch_of_another_tenant_is_classified(up, acme):
    with client_of(up, acme) as client:
        batch = client.batches.submit([("a.jpg", jpeg())])
        wait_until(lambda: client.batches.get(batch.batch_id).state == "COMPLETED", 30)


def test_a_suspended_tenant_is_refused_until_it_is_resumed(up, platform, acme):
    with client_of(up, platform.headers["authorization"].partition(" ")[2]) as operator:
        assert operator.tenants.suspend("acme").state == "SUSPENDED"
        with client_of(up, acme) as client:
            wait_until(lambda: is_refused(client, TenantSuspended), REFUSED_S)
        answer = httpx.get(f"{up.url}/v1/batch", headers={"authorization": f"Bearer {acme}"})
        reason = answer.json()["details"][0]["reason"]
        assert (answer.status_code, reason) == (403, "TENANT_SUSPENDED")
        assert operator.tenants.resume("acme").state == "ACTIVE"
        with client_of(up, acme) as client:
            wait_until(lambda: not is_refused(client, TenantSuspended), REFUSED_S)


def is_refused(client, error):
    try:
        list(client.batches.list())
    except error:
        return True
    return False


@pytest.mark.slow
def test_the_command_line_manages_tenants(up):
    def run(*words):
        return command(*words, "--data", up.data)

    assert run("tenants", "create", "initech", "--display-name", "Initech").returncode == 0
    listed = json.loads(run("tenants", "list", "--json").stdout)
    (initech,) = [tenant for tenant in listed if tenant["tenant_id"] == "initech"]
    assert (initech["display_name"], initech["state"]) == ("Initech", "ACTIVE")
    key = run("create-admin", "--tenant", "initech").stdout.strip()
    changed = run("tenants", "update", "initech", "--limit", "images_per_day=10", "--json")
    assert json.loads(changed.stdout)["limits"] == {"images_per_day": 10}
    words = "--limit", "requests_per_s=0.5", "--limit", "images_per_day"
    lifted = run("tenants", "update", "initech", *words, "--json")
    assert json.loads(lifted.stdout)["limits"] == {"requests_per_s": 0.5}
    assert run("tenants", "update", "initech", "--limit", "images_per_day=-1").returncode == 1
    assert run("tenants", "suspend", "initech").returncode == 0
    assert run("tenants", "delete", "initech").returncode == 1  # nobody answers the question
    assert run("tenants", "delete", "initech", "--yes").returncode == 0
    assert run("keys", "create", "late", "--tenant", "initech").returncode == 1
    with client_of(up, key) as client:
        wait_until(lambda: is_refused(client, CredentialsInvalid), REFUSED_S)


def test_a_key_below_the_platform_may_not_manage_tenants(http):
    answer = http.get(PATH)
    reason = answer.json()["details"][0]["reason"]
    assert (answer.status_code, reason) == (403, "ROLE_INSUFFICIENT")
