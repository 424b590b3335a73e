"""What the gateway adds to every answer, and what it believes of what clients send."""

import grpc
import httpx
import pytest
from image_categorizer.v1 import metadata_pb2, metadata_pb2_grpc
from image_categorizer_server.local.gateway import SECURITY_HEADERS
from image_categorizer_server.settings import Settings

from tests.support import raw_http
from tests.support.gateway import running_gateway

SPOOFED = "203.0.113.66"
CLIENT = "198.51.100.7"
FORWARDED = {
    "x-client-address": SPOOFED,
    "x-real-ip": SPOOFED,
    "forwarded": f"for={SPOOFED}",
    "x-envoy-external-address": SPOOFED,
    "true-client-ip": SPOOFED,
}
SETTINGS = Settings(
    gateway={
        "address_groups": 2,
        "cors_origins": ["https://app.example"],
        "max_headers_kib": 8,
        "hsts_max_age_s": 600,
    }
)
NOT_HTTP = b"\x00\x01hello\r\n\r\n"


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory):
    async with running_gateway(tmp_path_factory.mktemp("edge"), SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
async def behind_a_proxy(tmp_path_factory):
    hops = SETTINGS.gateway.model_copy(update={"trusted_hops": 1})
    settings = SETTINGS.model_copy(update={"gateway": hops})
    async with running_gateway(tmp_path_factory.mktemp("proxied"), settings) as running:
        yield running


@pytest.fixture
async def http(gateway):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/openapi.yaml", 200),
        ("GET", "/v1/batch/x/results:export", 200),
        ("GET", "/no", 404),
        ("GET", "/v1/batch/%2f", 400),
        ("DELETE", "/v1/models", 405),
        ("OPTIONS", "/v1/models", 405),
    ],
)
async def test_every_answer_tells_browsers_what_not_to_do(http, method, path, status):
    answer = await http.request(method, path)
    assert answer.status_code == status, answer.text
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert answer.headers["server"] == "image-categorizer"
    assert "strict-transport-security" not in answer.headers
    internal = {"x-http-status", "x-location", "x-set-cookie", "x-overloaded", "x-client-address"}
    assert internal.isdisjoint(answer.headers)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (NOT_HTTP, 400),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\na: %s\r\n\r\n" % (b"b" * 20_000), 431),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x\r\n\r\n", 400),
    ],
)
async def test_answers_to_what_is_hardly_http_say_it_too(gateway, request_, status):
    answered, headers, _ = raw_http.exchanged(gateway.port, request_)
    assert answered == status
    assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


async def test_a_page_runs_only_scripts_of_its_own_and_in_no_frame(http):
    answer = await http.get("/v1/batch/x/results:export")
    assert answer.headers["content-type"] == "text/html"
    policy = dict(
        directive.strip().partition(" ")[::2]
        for directive in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in str(policy)


async def test_no_answer_lets_pages_send_cookies_of_others(http):
    preflight = {"origin": "https://app.example", "access-control-request-method": "POST"}
    answers = [
        await http.options("/v1/classify", headers=preflight),
        await http.get("/v1/models", headers={"origin": "https://app.example"}),
    ]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("forwarded", ["", SPOOFED, f"{SPOOFED}, 127.0.0.1", "127.0.0.1", "::1"])
async def test_what_a_client_says_about_its_address_is_not_believed(gateway, http, forwarded):
    headers = FORWARDED | ({"x-forwarded-for": forwarded} if forwarded else {})
    for path in ("/healthz", "/v1/models"):
        assert (await http.get(path, headers=headers)).status_code == 200
        assert gateway.upstream.last()["x-client-address"] == "127.0.0.1"
    await called(gateway.port, headers)
    received = gateway.upstream.last()
    assert received["x-client-address"] == "127.0.0.1"
    assert SPOOFED not in str(received)


@pytest.mark.parametrize(
    "forwarded",
    [CLIENT, f"{SPOOFED}, {CLIENT}", f"{SPOOFED},127.0.0.1,{CLIENT}", f"10.0.0.1, {CLIENT}"],
)
async def test_behind_a_proxy_the_address_that_it_adds_counts(behind_a_proxy, forwarded):
    headers = FORWARDED | {"x-forwarded-for": forwarded}
    async with httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{behind_a_proxy.port}/healthz", headers=headers)
    assert behind_a_proxy.upstream.last()["x-client-address"] == CLIENT
    await called(behind_a_proxy.port, headers)
    received = behind_a_proxy.upstream.last()
    assert received["x-client-address"] == CLIENT
    assert SPOOFED not in str(received)


async def called(port, headers):
    """Calls by gRPC."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = metadata_pb2_grpc.MetadataServiceStub(channel)
        await stub.ListModels(
            metadata_pb2.ListModelsRequest(), metadata=tuple(headers.items()), timeout=10
        )
