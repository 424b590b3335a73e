"""Each REST route against each kind of caller, through Envoy: what the protos say happens."""

import base64
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from image_categorizer_server.access.api_key import new_key

from tests.support.polling import wait_until
from tests.support.rpcs import CALLERS, METHODS, refusal, rest, variables
from tests.support.up import command

pytestmark = pytest.mark.timeout(180)
HTTP_STATUS = {"CREDENTIALS_MISSING": 401, "CREDENTIALS_INVALID": 401, "ROLE_INSUFFICIENT": 403}


@pytest.fixture(scope="module")
def headers(up):
    """The credentials of each caller, by name; None for none."""
    command("tenants", "create", "other", "--data", up.data)
    platform = {
        tenant: {"authorization": f"Bearer {created(up, tenant)}"}
        for tenant in ("default", "other")
    }

    def made(name, tenant="default", **fields):
        body = {"name": name, "role": "platform", **fields}
        answer = httpx.post(f"{up.url}/v1/keys", json=body, headers=platform[tenant])
        assert answer.status_code == 200, answer.text
        return answer.json()

    found = {
        "none": None,
        "malformed": "Bearer ic_12345",
        "basic": "Basic " + base64.b64encode(b"admin:admin").decode(),
        "unknown": f"Bearer {new_key()}",
    }
    for caller in CALLERS:
        if caller.role is not None:
            scopes = [scope.value for scope in caller.scopes]
            key = made(caller.name, caller.tenant_id, role=caller.role.name.lower(), scopes=scopes)
            found[caller.name] = f"Bearer {key['secret']}"
    return found | ended(up, made, platform["default"])


def created(up, tenant):
    done = command(
        *("keys", "create", "p", "--role", "platform", "--tenant", tenant, "--data", up.data)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ended(up, made, admin):
    """Returns the credentials of a revoked and of an expired key, once they are refused."""
    revoked, expired = made("revoked"), made("expired")
    httpx.post(f"{up.url}/v1/keys/{revoked['key_id']}:revoke", json={}, headers=admin)
    changed = httpx.patch(
        f"{up.url}/v1/keys/{expired['key_id']}",
        json={"expire_time": soon()},
        headers=admin,
    )
    assert changed.status_code == 200, changed.text
    found = {
        "revoked": f"Bearer {revoked['secret']}",
        "expired": f"Bearer {expired['secret']}",
    }
    for header in found.values():
        wait_until(lambda header=header: status(up, header) == 401, 10, 0.1)
    return found


def soon():
    return (datetime.now(UTC) + timedelta(seconds=1)).isoformat()


def status(up, header):
    return httpx.get(f"{up.url}/v1/info", headers={"authorization": header}).status_code


def request_of(method):
    """Returns the HTTP method, the path and the content of a request that changes nothing."""
    verb, path = rest(method)
    for name in variables(method):
        path = path.replace(f"{{{name}}}", "x")
    if path.endswith(":upload"):
        kind = {"content-type": "application/octet-stream"}
        return verb, path.removesuffix(":upload"), b"x", kind
    kind = {"content-type": "application/json"}
    return verb, path, b"{}" if verb in ("POST", "PATCH") else b"", kind if verb != "GET" else {}


def wrong_cells(up, headers, chosen):
    """Returns the cells that are not as the protos say, and what happened."""
    wrong = []
    with httpx.Client(base_url=up.url, timeout=30) as http:
        for method, caller in chosen:
            verb, path, content, kind = request_of(method)
            header = headers[caller.name]
            sent = kind | ({} if header is None else {"authorization": header})
            answer = http.request(verb, path, content=content, headers=sent)
            expected = refusal(method, caller)
            if expected:
                reasons = [d.get("reason") for d in answer.json()["details"]]
                is_right = answer.status_code == HTTP_STATUS[expected] and expected in reasons
            else:
                is_right = answer.status_code not in (401, 403, 405, 500)
            if not is_right:
                wrong.append((method.name, caller.name, expected, answer.status_code, answer.text))
    return wrong


def test_every_cell_of_the_matrix_is_as_the_protos_say(up, headers):
    cells = [(method, caller) for method in METHODS if rest(method) for caller in CALLERS]
    assert wrong_cells(up, headers, cells) == []
    print(f"{len(cells)} cells")
