"""What `up` turns on for work on one machine: calls by web pages, and reflection."""

import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.support.pictures import jpeg

BUF = Path(sys.executable).parent / "buf"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-attempt,x-grpc-web",
}
PATHS = ("/v1/classify", "/v1/batch", "/image_categorizer.v1.MetadataService/ListModels")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:1"])
def test_pages_of_this_machine_may_call(hasty, path, origin):
    answer = httpx.options(hasty.url + path, headers={"origin": origin, **PREFLIGHT})
    assert answer.headers["access-control-allow-origin"] == origin
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert set(PREFLIGHT["access-control-request-headers"].split(",")) <= set(allowed)
    key = {"authorization": f"Bearer {hasty.shown_key()}"}
    headers = {"origin": origin, **key}
    answer = httpx.post(f"{hasty.url}/v1/classify", content=jpeg(), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"grpc-status", "grpc-message", "x-request-id", "retry-after"} <= set(exposed)


@pytest.mark.parametrize(
    "origin", ["null", "https://evil.example", "http://localhost.evil.example"]
)
def test_other_pages_may_not(hasty, origin):
    answer = httpx.options(f"{hasty.url}/v1/classify", headers={"origin": origin, **PREFLIGHT})
    assert "access-control-allow-origin" not in answer.headers


def test_every_page_may_read_the_openapi_document(hasty):
    answer = httpx.get(f"{hasty.url}/openapi.yaml", headers={"origin": "https://editor.example"})
    assert answer.headers["access-control-allow-origin"] == "*"


def test_tools_may_list_the_services(hasty):
    with grpc.insecure_channel(f"127.0.0.1:{hasty.port}") as channel:
        found = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "image_categorizer.v1.ClassifyService" in found
    if BUF.exists():
        grpc_only = ("--protocol", "grpc", "--http2-prior-knowledge")
        command = [BUF, "curl", *grpc_only, "--list-methods", hasty.url]
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        assert "image_categorizer.v1.ClassifyService/Classify" in listed.stdout
