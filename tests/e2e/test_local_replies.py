"""What Envoy answers itself is a google.rpc.Status with a sentence that helps."""

import json

import pytest

from tests.support import raw_http
from tests.support.polling import wait_until

HOST = b"host: localhost\r\n"
UPGRADE = (
    b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n"
)
FIELD, ROUTE = "FIELD_INVALID", "ROUTE_NOT_FOUND"
BAD_PATH, NOT_HTTP, TOO_LARGE = "the path is malformed", "not valid HTTP", "exceed 32 KiB"


def request(
    target: bytes, headers: bytes = b"", method: bytes = b"GET", body: bytes = b""
) -> bytes:
    return b"%s %s HTTP/1.1\r\n%s%s\r\n%s" % (method, target, HOST, headers, body)


def json_request(target: bytes, body: bytes) -> bytes:
    headers = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    return request(target, headers, b"POST", body)


REPLIES = {
    "escaped slash": (request(b"/v1/batch/%2f"), 400, FIELD, BAD_PATH),
    "escaped backslash": (request(b"/v1/batch/%5C"), 400, FIELD, BAD_PATH),
    "escaped NUL": (request(b"/v1/batch/%00"), 400, FIELD, BAD_PATH),
    "fragment": (request(b"/v1/models#all"), 400, FIELD, BAD_PATH),
    "no such path": (request(b"/v1/batch/a\\b"), 404, ROUTE, "/openapi.yaml"),
    "path that leaves": (request(b"/v1/../../etc/passwd"), 404, ROUTE, "/openapi.yaml"),
    "websocket": (request(b"/v1/models", UPGRADE), 400, FIELD, "omit the header upgrade"),
    "tunnel": (request(b"localhost:80", method=b"CONNECT"), 404, ROUTE, "/openapi.yaml"),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400, FIELD, "host is required"),
    "relative path": (request(b"healthz"), 400, FIELD, NOT_HTTP),
    "unknown method": (request(b"/healthz", method=b"G@T"), 400, FIELD, NOT_HTTP),
    "space in a name": (request(b"/healthz", b"a b: c\r\n"), 400, FIELD, NOT_HTTP),
    "NUL in a header": (request(b"/healthz", b"a: b\0c\r\n"), 400, FIELD, NOT_HTTP),
    "two lengths": (
        request(b"/healthz", b"content-length: 1\r\ncontent-length: 2\r\n", b"POST", b"ab"),
        *(400, FIELD, NOT_HTTP),
    ),
    "length and chunks": (
        request(
            b"/", b"transfer-encoding: chunked\r\ncontent-length: 5\r\n", b"POST", b"0\r\n\r\n"
        ),
        *(400, FIELD, NOT_HTTP),
    ),
    "unknown coding": (request(b"/", b"transfer-encoding: x\r\n"), 400, FIELD, NOT_HTTP),
    "not HTTP": (b"\x00\x01hello\r\n\r\n", 400, FIELD, NOT_HTTP),
    "long header": (request(b"/healthz", b"a: %s\r\n" % (b"b" * 70_000)), 431, FIELD, TOO_LARGE),
    "long path": (request(b"/healthz?" + b"b" * 70_000), 431, FIELD, TOO_LARGE),
    "many headers": (request(b"/healthz", b"a: b\r\n" * 150), 431, FIELD, TOO_LARGE),
    "unknown parameter": (request(b"/v1/models?colour=1"), 400, FIELD, "colour"),
    "wrong parameter": (request(b"/v1/batch?page_size=x"), 400, FIELD, "page_size"),
    "damaged JSON": (json_request(b"/v1/webhooks", b"{a}"), 400, FIELD, "Expected"),
    "large JSON": (
        json_request(b"/v1/classify", b'{"image": "%s"}' % (b"A" * (4 << 20))),
        *(413, "IMAGE_TOO_LARGE", "exceeds"),
    ),
}


@pytest.mark.parametrize("name", REPLIES)
def test_every_local_reply_is_a_status_that_says_what_is_wrong(up, name):
    sent, status, reason, words = REPLIES[name]
    answered, headers, body = raw_http.exchanged(up.port, sent)
    assert (answered, headers["content-type"]) == (status, "application/json"), body
    error = json.loads(body)
    assert set(error) == {"code", "message", "details"}
    assert error["details"][0]["reason"] == reason
    assert words in error["message"]


@pytest.mark.parametrize("size", [10_000, 30_000])
def test_a_long_page_token_is_a_wrong_field_and_not_a_quota(http, size):
    answer = http.get("/v1/batch", params={"page_token": "a" * size})
    assert answer.status_code == 400
    assert "page_token" in answer.json()["message"]
    assert http.get("/healthz", headers={"x-any": "a" * size}).status_code == 200


def test_the_access_log_holds_no_query_no_key_and_no_forged_line(up):
    secret, forged = b"s3cret", b"2026-01-01T00:00:00.000Z 200 forged"
    targets = [
        b"/v1/batch?webhook_url=https://s3cret.example",
        *(b"/v1/batch%3fapi_key=s3cret", b"/v1/batch%253fapi_key=s3cret", b"/v1/batch;key=s3cret"),
        *(b"/v1/models/ic_s3cret", b"/v1/a&s3cret", b"/v1/a@s3cret", b"/v1/batch/%0a%0ds3cret"),
        b"/v1/" + b"a" * 300 + b"s3cret",
    ]
    for target in targets:
        raw_http.http1(up.port, target, [(b"referer", b"http://a/?s3cret")])
    raw_http.http1(up.port, b"/healthz", [(b"x-request-id", forged)])
    raw_http.http1(up.port, b"/healthz", [(b"x-request-id", b"the-last")])
    log = up.data / "logs" / "gateway.log"
    wait_until(lambda: b" the-last\n" in log.read_bytes(), 30, 0.2)  # Envoy writes every 10 s
    written = log.read_bytes()
    assert b"GET /v1/batch " in written
    assert secret not in written
    assert b"forged" not in written
