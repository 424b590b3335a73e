"""The audit through Envoy and on the command line; one row that is edited by hand is found."""

import asyncio
import csv
import io
import json

import httpx
import pytest
from image_categorizer import ImageCategorizationClient

from tests.support.database import connect_as_owner
from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.up import command

FORGE = "UPDATE audit_events SET actor_id = actor_id || 'x' WHERE tenant_id = 'default' AND seq = 2"
RESTORE = FORGE.replace("actor_id || 'x'", "rtrim(actor_id, 'x')")


@pytest.fixture(scope="module")
def batch_id(up, admin_key):
    """A batch that was created and deleted."""
    with ImageCategorizationClient(admin_key, up.url) as client:
        batch = client.batches.submit([("a.jpg", jpeg())])
        for _ in client.batches.watch(batch.batch_id):
            pass
        client.batches.delete(batch.batch_id)
    return batch.batch_id


def run(up, *words):
    return command("audit", *words, "--data", up.data)


def sql(up, statement):
    """Runs a statement as somebody with all rights of the database."""
    url = json.loads((up.data / "installation.json").read_text())["database_url"]

    async def execute():
        connection = await connect_as_owner(url)
        try:
            await connection.execute("SET session_replication_role = replica")
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute())


def test_events_are_found_over_rest(http, batch_id):
    answer = http.get("/v1/audit", params={"resource": batch_id})
    events = answer.json()["events"]
    actions = [event["action"] for event in events]
    assert actions == ["batch.delete", "batch.completed", "batch.create"]
    created = events[-1]
    assert (created["outcome"], created["address"]) == ("OK", "127.0.0.1")
    assert created["detail"] == {"item_count": 1, "priority": 0, "webhook_host": ""}
    assert int(events[0]["seq"]) > int(created["seq"])
    times = {"start_time": created["time"], "end_time": events[0]["time"], "resource": batch_id}
    found = http.get("/v1/audit", params=times).json()["events"]
    assert [event["action"] for event in found] == ["batch.completed", "batch.create"]
    found = http.get("/v1/audit", params={"startTime": "2199-01-01T00:00:00Z"}).json()
    assert found == {"events": [], "next_page_token": ""}
    page = http.get("/v1/audit?page_size=1").json()
    older = http.get("/v1/audit", params={"page_token": page["next_page_token"], "page_size": 1})
    assert int(older.json()["events"][0]["seq"]) == int(page["events"][0]["seq"]) - 1
    assert http.get("/v1/audit?start_time=yesterday").status_code == 400


def test_events_are_exported_over_rest(http, batch_id):
    answer = http.get("/v1/audit:export", params={"resource": batch_id})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.jsonl"'
    assert [json.loads(line)["action"] for line in answer.text.splitlines()] == [
        "batch.create",
        "batch.completed",
        "batch.delete",
    ]
    answer = http.get("/v1/audit:export", params={"format": "csv", "action": "audit.export"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert json.loads(rows[-1]["detail"]) == {"format": "csv"}


def test_refusals_and_a_role_that_is_too_low_are_in_it(up, http, viewer_key):
    headers = {"authorization": f"Bearer {viewer_key}"}
    assert httpx.get(f"{up.url}/v1/audit", headers=headers).status_code == 403
    assert httpx.get(f"{up.url}/v1/audit").status_code == 401

    def denied():
        found = http.get("/v1/audit", params={"action": "access.denied"}).json()["events"]
        return [event for event in found if event["detail"]["method"] == "ListAuditEvents"]

    wait_until(denied, 10)
    assert denied()[0]["outcome"] == "DENIED"
    assert http.get("/v1/audit?platform=true").status_code == 403


def test_every_key_has_one_event_that_names_who_created_it(http, viewer_key):
    query = {"action": "key.create", "page_size": 1000}
    found = http.get("/v1/audit", params=query).json()["events"]
    resources = [event["resource"] for event in found]
    keys = http.get("/v1/keys?page_size=1000").json()["keys"]
    assert [resources.count(key["key_id"]) for key in keys] == [1] * len(keys)
    assert any(event["actor_id"].startswith("cli:") for event in found)


def test_the_command_line_lists_and_exports(up, batch_id, tmp_path):
    listed = run(up, "list", "--resource", batch_id, "--json")
    events = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [event["action"] for event in events][-1] == "batch.create"
    table = run(up, "list", "--action", "batch.", "--most", "3", "--since", "2026-01-01")
    assert table.returncode == 0
    assert batch_id in table.stdout
    file = tmp_path / "audit.csv"
    assert run(up, "export", file, "--format", "csv").returncode == 0
    assert len(file.read_text().splitlines()) > len(events)


def test_one_row_edited_by_hand_is_found_and_named(up, batch_id):
    wait_until(lambda: any((up.data / "images" / "_audit" / "default").iterdir()), 30)
    verified = run(up, "verify", "--tenant", "default")
    assert verified.returncode == 0, verified.stderr
    assert "are as they were written" in " ".join(verified.stderr.split())
    assert "not verified" not in verified.stderr  # the key of the installation is known
    sql(up, FORGE)
    try:
        verified = run(up, "verify", "--tenant", "default")
    finally:
        sql(up, RESTORE)
    assert verified.returncode == 1
    assert "default: event 2 was changed after it was written." in verified.stderr


def test_the_key_of_the_installation_is_for_its_owner_only(up):
    assert (up.data / "audit.pem").stat().st_mode & 0o777 == 0o600
