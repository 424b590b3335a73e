"""One caller's headers never break another's calls: malformed ones end at the gateway."""

import random
from collections.abc import Callable

import pytest

from tests.support import raw_http
from tests.support.healthy_caller import healthy_caller

CASES = 75
SLOW_CASES = 1000  # many take a second: Envoy closes the connection late
METHOD = b"/image_categorizer.v1.HealthService/GetLiveness"
ANSWERS = range(200, 500)
GRPC = (b"content-type", b"application/grpc")
GRPC_WEB = (b"content-type", b"application/grpc-web+proto")
NAMES = [
    *(b":authority", b":scheme", b":protocol", b"host", b"te", b"user-agent", b"content-type"),
    *(b"content-encoding", b"expect", b"connection"),
    *(b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"grpc-status", b"grpc-message"),
    *(b"grpc-status-details-bin", b"grpc-previous-rpc-attempts", b"grpc-retry-pushback-ms"),
    *(b"grpc-internal-encoding-request", b"grpc-trace-bin", b"grpc-tags-bin", b"lb-token"),
    *(b"lb-cost-bin", b"endpoint-load-metrics-bin", b"x-any-bin", b"x-any", b"x-request-id"),
    *(b"traceparent", b"authorization", b"x-forwarded-for", b"x-forwarded-proto"),
    *(b"x-forwarded-host", b"x-envoy-retry-on", b"x-envoy-upstream-rq-timeout-ms"),
    *(b"x-envoy-original-path", b"x-envoy-original-method", b"x-envoy-max-retries"),
    *(b"x-envoy-expected-rq-timeout-ms", b"x-envoy-decorator-operation", b"x-native-grpc"),
    *(b"x-http-method-override", b"keep-alive", b"proxy-connection", b"!#$%&'*+.^|~"),
]
VALUES = [
    *(b"", b"abc", b"-1", b"1n", b"99999999H", b"999999999S", b"1S,2S", b"0", b"5", b"1 S"),
    *(b"!!!", b"====", b"AAAA", b"gzip", b"deflate", b"zstd", b"identity", b"trailers"),
    *(b"application/grpc+xyz", b"application/grpc;x=y", b"application/json", b"text/plain"),
    *(b"\xff\xfe", b"\xc3\xa9", b"\t", b"%00", b"..", b"chunked", b"100-continue", b"a" * 9000),
    *(
        b"a" * 20_000,
        b"connect-failure,reset,5xx",
        b"websocket",
        b"/v1/models",
        b"ftp",
        b"2147483648",
    ),
]


def rest(port: int, headers: raw_http.Headers) -> bool:
    return raw_http.http1(port, b"/healthz", headers)[0] in ANSWERS


def grpc_web(port: int, headers: raw_http.Headers) -> bool:
    body = raw_http.EMPTY_MESSAGE
    return raw_http.http1(port, METHOD, [GRPC_WEB, *headers], body)[0] in ANSWERS


def native(port: int, headers: raw_http.Headers) -> bool:
    call = raw_http.grpc_call(METHOD, [GRPC, (b"te", b"trailers"), *headers])
    return raw_http.http2_ended(port, call)


def native_trailers(port: int, headers: raw_http.Headers) -> bool:
    return raw_http.http2_ended(port, raw_http.grpc_call(METHOD, [GRPC], headers))


def rest_http2(port: int, headers: raw_http.Headers) -> bool:
    return raw_http.http2_ended(port, raw_http.grpc_call(b"/healthz", headers, method=b"GET"))


WAYS: list[Callable[[int, raw_http.Headers], bool]] = [
    *(rest, grpc_web, native, native_trailers, rest_http2)
]


@pytest.mark.parametrize(
    "cases",
    [CASES, pytest.param(SLOW_CASES, marks=[pytest.mark.slow, pytest.mark.timeout(300)])],
)
def test_no_header_of_one_caller_breaks_the_calls_of_another(up, cases):
    random_ = random.Random(cases)
    unanswered = []
    with healthy_caller(up.port) as outcomes:
        for _ in range(cases):
            way = random_.choice(WAYS)
            headers = [
                (random_.choice(NAMES), random_.choice(VALUES))
                for _ in range(random_.choice((1, 1, 1, 2, 3)))
            ]
            if not way(up.port, headers):
                unanswered.append((way.__name__, headers))
    assert unanswered == []
    assert len(outcomes) > 10
    assert set(outcomes) == {"OK"}


@pytest.mark.parametrize("timeout", [b"abc", b"1", b"1S,2S", b"999999999S", b"-1S", b"1x", b""])
def test_a_malformed_deadline_of_grpc_is_answered_by_the_gateway(up, timeout):
    for content_type in (GRPC, GRPC_WEB):
        headers = [content_type, (b"grpc-timeout", timeout)]
        status, answer, _ = raw_http.http1(up.port, METHOD, headers, raw_http.EMPTY_MESSAGE)
        assert (status, answer["grpc-status"]) == (200, "3")
        assert answer["grpc-message"].startswith("grpc-timeout: must be")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([GRPC, (b"grpc-encoding", b"zstd")], "grpc-encoding"),
        ([(b"content-type", b"application/grpc+json")], "content-type"),
        ([(b"content-type", b"application/grpc+")], "content-type"),
    ],
)
def test_what_the_server_does_not_speak_of_grpc_is_unimplemented(up, headers, words):
    status, answer, _ = raw_http.http1(up.port, METHOD, headers, raw_http.EMPTY_MESSAGE)
    assert (status, answer["grpc-status"]) == (200, "12")
    assert words in answer["grpc-message"]


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"gzip, gzip", b"deflate"])
def test_an_encoding_of_rest_means_nothing_to_grpc(up, encoding):
    header = b"content-encoding", encoding
    assert grpc_web(up.port, [header])
    assert native(up.port, [header])


def test_headers_of_grpc_mean_nothing_to_rest(up):
    for name in (b"grpc-timeout", b"grpc-encoding", b"x-envoy-upstream-rq-timeout-ms"):
        status, _, body = raw_http.http1(up.port, b"/healthz", [(name, b"1n")])
        assert (status, body) == (200, b'{"live":true}')


def test_credentials_that_no_header_may_hold_are_refused(up):
    status, _, body = raw_http.http1(
        up.port, b"/v1/models", [(b"authorization", b"Bearer \xe9\xff")]
    )
    assert status == 400
    assert b"authorization: must consist of printable ASCII" in body
