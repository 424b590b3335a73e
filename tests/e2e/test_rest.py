"""REST as people's tools speak it: old protocols, methods, paths, compressed bodies, spellings."""

import base64
import gzip
import json
import socket

import httpx
import pytest
from image_categorizer_server.local.gateway import gateway_folder
from PIL import Image

from tests.support.pictures import encoded, jpeg

PICTURE = jpeg(300, 200)
B64 = base64.b64encode(PICTURE).decode()
OCTETS = {"content-type": "application/octet-stream"}
JSON = {"content-type": "application/json"}
MODEL = "/v1/models/efficientnet_lite0"
MAX_REPEATED_CHARACTERS = 200
ANSWER_S = 5.0
"""Longer than a slow machine takes for any answer here."""
METHODS = json.loads((gateway_folder() / "contract.json").read_text())["methods"]
WITH_BODY = [
    (method, path.replace("[^/:]+", "any").replace("\\-", "-"))
    for path, methods in METHODS.items()
    for method in {"POST", "PATCH"}.intersection(methods)
]
"""Methods and paths of all operations that take a body."""
PACKED = gzip.compress(b'{"url": "https://example.com/", "version": "1"}')
DAMAGES = {
    "not gzip": b'{"url": "https://example.com/"}',
    "one byte": PACKED[:1],
    "truncated head": PACKED[:8],
    "truncated data": PACKED[:-20],
    "truncated checksum": PACKED[:-6],
    "truncated length": PACKED[:-1],
    "wrong checksum": PACKED[:-8] + b"sum!" + PACKED[-4:],
    "garbage behind": PACKED + b"garbage",
}


def refusal(answer):
    """Returns status, reason and message of an error in the contract's form."""
    body = answer.json()
    (info,) = (d for d in body["details"] if d["@type"].endswith("ErrorInfo"))
    return answer.status_code, info["reason"], body["message"]


def predictions(answer):
    assert answer.status_code == 200, answer.text
    return [(p["category"], round(p["confidence"], 4)) for p in answer.json()["predictions"]]


@pytest.fixture(scope="module")
def expected(http):
    """What the picture is with `top_k` 2."""
    return predictions(http.post("/v1/classify?top_k=2", content=PICTURE))


def raw(up, request):
    """Sends bytes to the gateway and returns all that it answers."""
    with socket.create_connection(("127.0.0.1", up.port), 10) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    return answer


@pytest.mark.parametrize("host", [b"", b"host: api.example\r\n"], ids=["no host", "host"])
def test_http_1_0_works(up, admin_key, host):
    key = f"authorization: Bearer {admin_key}\r\n".encode()
    assert b'{"live":true}' in raw(up, b"GET /healthz HTTP/1.0\r\n" + host + b"\r\n")
    length = f"content-length: {len(PICTURE)}\r\n".encode()
    answer = raw(up, b"POST /v1/classify HTTP/1.0\r\n" + host + key + length + b"\r\n" + PICTURE)
    assert b'"success":true' in answer
    assert b"chunked" not in answer.lower()


@pytest.fixture(scope="module")
def batch(http):
    """The path of a batch that has ended."""
    created = http.post("/v1/batch", json={"items": [{"image": B64}]})
    path = f"/v1/batch/{created.json()['batch_id']}"
    assert http.get(f"{path}:watch").status_code == 200
    return path


# What differs from one answer to the next.
OWN = {
    "date",
    "x-request-id",
    "x-envoy-upstream-service-time",
    "content-length",
    "transfer-encoding",
}


def test_head_answers_as_get_without_a_body(http, batch):
    paths = ["/healthz", "/readyz", "/openapi.yaml", "/v1/models", "/v1/categories?page_size=2"]
    paths += ["/v1/info", "/v1/batch", batch, f"{batch}/results", f"{batch}:watch", "/v1/nope"]
    paths += [f"{batch}/results:export?format=csv", f"{batch}/results:export?format=xml"]
    paths += ["/v1/models/nope", "/v1/classify"]
    for path in paths:
        got, head = http.get(path), http.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        for name in set(got.headers) | set(head.headers):
            assert name in OWN or head.headers.get(name) == got.headers.get(name), (path, name)
        if "content-length" in head.headers and "batch" not in path:
            assert head.headers["content-length"] == got.headers["content-length"], path


def test_head_of_a_running_watch_ends(up, http):
    created = http.post("/v1/batch", json={"items": [{"image_uri": "https://a.invalid/b"}]})
    path = f"/v1/batch/{created.json()['batch_id']}:watch"
    answer = http.head(path, headers={"accept": "text/event-stream"}, timeout=5)
    assert answer.headers["content-type"] == "text/event-stream"
    assert http.head("/v1/info").headers["content-length"]  # the connection still works


def test_head_needs_credentials_as_get_does(up):
    assert httpx.head(f"{up.url}/v1/info").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/info", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/openapi.yaml", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("GET", "/v1/classify", "POST"),
        ("GET", "/v1/classify/", "POST"),
        ("HEAD", "/v1/classify?top_k=1", "POST"),
        ("OPTIONS", "/v1/classify", "POST"),
        ("DELETE", "/v1/batch", "GET, HEAD, POST"),
        ("PATCH", "/v1/batch/b-1", "DELETE, GET, HEAD"),
        ("GET", f"{MODEL}:load", "POST"),
        ("PUT", "/v1/webhooks/w", "DELETE, GET, HEAD, PATCH"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(http, method, path, allowed):
    answer = http.request(method, path)
    assert answer.status_code == 405
    assert ", ".join(sorted(answer.headers["allow"].split(", "))) == allowed
    if method != "HEAD":
        _, reason, message = refusal(answer)
        assert reason == "METHOD_NOT_ALLOWED"
        assert message == f"this path takes the methods {answer.headers['allow']}"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["/v1/nope", "/v1", "/v1/batch/b/c/d", f"{MODEL}:a/b"])
def test_an_unknown_path_is_not_found_by_any_method(http, method, path):
    assert refusal(http.request(method, path))[:2] == (404, "ROUTE_NOT_FOUND")


def test_a_slash_at_the_end_of_a_path_changes_nothing(http, batch, expected):
    for path in ("/v1/models", "/v1/info", "/healthz", "/openapi.yaml", batch, f"{batch}/results"):
        assert http.get(f"{path}/").content == http.get(path).content
    assert http.get(f"{batch}:watch/").headers["content-type"] == "application/x-ndjson"
    assert http.get("/v1/batch/?page_size=1").status_code == 200
    for path in ("/v1/classify/?top_k=2", "/v1/classify//?top_k=2"):
        assert predictions(http.post(path, content=PICTURE)) == expected
        assert predictions(http.post(path, files={"image": PICTURE})) == expected
        assert predictions(http.post(path, json={"image": B64})) == expected
    assert http.post("/v1/batch/", files={"images": PICTURE}).status_code == 200
    assert http.post(f"{MODEL}:load/", json={}).status_code == 200


def zipped(http, path, content, kind="application/json", encoding="gzip", method="POST"):
    headers = {"content-encoding": encoding, "content-type": kind}
    return http.request(method, path, content=content, headers=headers, timeout=ANSWER_S)


def multipart(name):
    body = httpx.Request("POST", "http://a", files={name: ("a.bmp", PICTURE)})
    return body.read(), body.headers["content-type"]


def test_bodies_may_be_compressed_by_gzip(http, expected):
    form, of_form = multipart("image")
    for content, kind in (
        (PICTURE, "image/jpeg"),
        (form, of_form),
        (json.dumps({"image": B64}).encode(), "application/json"),
        (b"\xef\xbb\xbf" + json.dumps({"image": B64}).encode(), "application/json"),
    ):
        for encoding in ("gzip", "x-gzip", "GZIP"):
            packed = gzip.compress(content)
            answer = zipped(http, "/v1/classify?top_k=2", packed, kind, encoding)
            assert predictions(answer) == expected
    files, of_files = multipart("images")
    items = json.dumps({"items": [{"image": B64}]}).encode()
    for content, kind in ((files, of_files), (items, "application/json")):
        answer = zipped(http, "/v1/batch", gzip.compress(content), kind)
        assert answer.json()["item_count"] == 1, answer.text
    packed = gzip.compress(b'{"version": "1"}')
    assert zipped(http, f"{MODEL}:load", packed, "application/json").status_code == 200
    # Compresses by a factor of several hundred.
    flat = encoded(Image.new("RGB", (600, 400)), "BMP")
    assert zipped(http, "/v1/classify", gzip.compress(flat), "image/bmp").status_code == 200


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/batch", f"{MODEL}:load"])
def test_a_body_that_becomes_too_large_is_refused(up, http, path):
    gateway, server = up.process_of("gateway"), up.process_of("server")
    bomb = gzip.compress(bytes(200 << 20))
    before = [process.memory_info().rss for process in (gateway, server)]
    for _ in range(3):
        status, reason, message = refusal(zipped(http, path, bomb, "application/json"))
        assert status == 413, message
        assert reason in ("IMAGE_TOO_LARGE", "BATCH_TOO_LARGE")
        assert "bytes" in message
    after = [process.memory_info().rss for process in (gateway, server)]
    assert max(b - a for a, b in zip(before, after, strict=True)) < 100 << 20


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_gzip_body_is_refused_at_once_by_every_path(http, damage):
    for method, path in WITH_BODY:
        answer = zipped(http, path, DAMAGES[damage], method=method)
        assert refusal(answer)[:2] == (400, "FIELD_INVALID"), path
        assert "gzip" in refusal(answer)[2]


def test_a_damaged_gzip_body_changes_nothing(http):
    before = http.post("/v1/webhooks/default:rotateSecret", json={}).json()
    for content in DAMAGES.values():
        zipped(http, "/v1/webhooks/default:rotateSecret", content)
    after = http.get("/v1/webhooks/default").json()
    assert after["previous_secret_expire_time"] == before["previous_secret_expire_time"]


def test_incomplete_json_is_refused_at_once_by_every_path_compressed_or_not(platform):
    incomplete = b'{"url": "https:'
    for method, path in WITH_BODY:
        for content, encoding in ((incomplete, "identity"), (gzip.compress(incomplete), "gzip")):
            answer = zipped(platform, path, content, encoding=encoding, method=method)
            assert refusal(answer)[:2] == (400, "FIELD_INVALID"), path


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress"])
def test_other_encodings_are_refused(http, encoding):
    for path in ("/v1/classify", "/v1/batch", f"{MODEL}:load"):
        answer = zipped(http, path, PICTURE, "application/json", encoding)
        assert refusal(answer) == (415, "FIELD_INVALID", "content-encoding must be gzip, or absent")
    assert zipped(http, "/v1/classify", PICTURE, "image/jpeg", "identity").status_code == 200


def test_json_may_begin_with_a_byte_order_mark(http, expected):
    mark = b"\xef\xbb\xbf"
    body = json.dumps({"image": B64}).encode()
    assert (
        predictions(http.post("/v1/classify?top_k=2", content=mark + body, headers=JSON))
        == expected
    )
    body = mark + b'{"version": "1"}'
    assert http.post(f"{MODEL}:load", content=body, headers=JSON).status_code == 200
    for path in ("/v1/classify", "/v1/batch", f"{MODEL}:load"):
        content = json.dumps({"version": "1"}).encode("utf-16")
        answer = http.post(path, content=content, headers=JSON)
        assert refusal(answer)[:2] == (400, "FIELD_INVALID")
        assert "the JSON must be encoded in UTF-8" in refusal(answer)[2]


def by_query(http, values):
    return http.post("/v1/classify", params=values, content=PICTURE, headers=OCTETS)


def by_form(http, values):
    return http.post("/v1/classify", data=values, files={"image": PICTURE})


def by_json(http, values):
    return http.post("/v1/classify", json={"image": B64, "options": values})


def by_query_beside_json(http, values):
    return http.post("/v1/classify", params=values, json={"image": B64})


def by_text_form(http, values):
    return http.post("/v1/classify", data={"image": B64, **values})


WAYS = [by_query, by_form, by_json, by_query_beside_json, by_text_form]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_names_and_values_follow_one_rule(http, expected, way):
    for name in ("top_k", "topK"):
        for value in ("2", " 2", "2 "):
            assert predictions(way(http, {name: value})) == expected
    for value in ("true", "True", "TRUE", "1", " true "):
        for name in ("bounding_boxes", "boundingBoxes"):
            answer = way(http, {name: value, "top_k": "2"})
            assert predictions(answer) == expected
            assert len(answer.json()["predictions"][0]["bounding_box"]) == 4
    for value in ("false", "False", "0", "", "  "):
        answer = way(http, {"bounding_boxes": value, "top_k": "2"})
        assert answer.json()["predictions"][0]["bounding_box"] == []
        assert answer.json()["predictions"][0]["bounding_boxes"] == []
    empty = dict.fromkeys(("model", "version", "confidence_threshold", "no_cache"), "")
    assert predictions(way(http, {**empty, "top_k": "2"})) == expected
    for name, value in (("top_k", "many"), ("explain", "on"), ("nonsense", "1")):
        status, reason, message = refusal(way(http, {name: value}))
        assert (status, reason) == (400, "FIELD_INVALID")
        assert name in message


def test_a_value_may_come_twice_if_it_is_the_same(http, expected):
    body = {"image": B64, "options": {"top_k": 2}}
    assert predictions(http.post("/v1/classify?topK=2", json=body)) == expected
    form = {"data": {"top_k": "2"}, "files": {"image": PICTURE}}
    assert predictions(http.post("/v1/classify?topK=2", **form)) == expected
    for request in ({"json": body}, form):
        status, reason, message = refusal(http.post("/v1/classify?top_k=3", **request))
        assert (status, reason) == (400, "FIELD_INVALID")
        assert "top_k: is given twice, with different values" in message


def test_batches_follow_the_same_rule(http):
    body = {"items": [{"imageUri": "https://a.invalid/b"}, {"image": f"data:;base64,{B64}"}]}
    query = {"topK": "2", "webhook_url": "", "priority": " 3"}
    answer = http.post(
        "/v1/batch", params=query, json={**body, "options": {"boundingBoxes": "True"}}
    )
    options = answer.json()["options"]
    assert (options["top_k"], options["bounding_boxes"]) == (2, True)
    form = {"data": {"topK": "2", "bounding_boxes": "1"}, "files": {"images": PICTURE}}
    assert http.post("/v1/batch?model=", **form).json()["options"] == options
    for request in ({"json": {**body, "options": {"top_k": 3}}}, form):
        answer = http.post("/v1/batch?topK=4", **request)
        assert "top_k: is given twice" in refusal(answer)[2]


@pytest.mark.parametrize(
    "body",
    [
        {"image": B64, "flavour": "new"},
        {"image": B64, "options": {"topk": 1}},
        {"image": B64, "top_k": 1},
    ],
)
def test_unknown_json_fields_are_refused_by_name(http, body):
    status, reason, message = refusal(http.post("/v1/classify", json=body))
    assert (status, reason) == (400, "FIELD_INVALID")
    assert any(word in message for word in ("flavour: is not", "options.topk: is not", "belongs"))
    answer = http.post("/v1/batch", json={"items": [{"image": B64, "x": 1}]})
    assert refusal(answer)[2].startswith("items[0].x: is not a field of an item")


IMAGE_TEXTS = [
    B64,
    B64.rstrip("="),
    B64.replace("+", "-").replace("/", "_"),
    base64.encodebytes(PICTURE).decode(),
    f"data:image/jpeg;base64,{B64}",
    f"data:image/jpeg;base64,{B64.replace('+', '-').replace('/', '_').rstrip('=')}",
]


@pytest.mark.parametrize("text", IMAGE_TEXTS, ids=lambda text: repr(text[:12]))
def test_an_image_may_be_any_common_form_of_base64(http, expected, text):
    path = "/v1/classify?top_k=2"
    assert predictions(http.post(path, json={"image": text})) == expected
    assert predictions(http.post(path, files={"image": (None, text)})) == expected
    assert predictions(http.post(path, data={"image": text})) == expected
    if text.startswith("data:"):
        assert predictions(http.post(path, content=text, headers=OCTETS)) == expected
    created = http.post("/v1/batch", json={"items": [{"image": text}]}).json()
    watched = http.get(f"/v1/batch/{created['batch_id']}:watch").text.splitlines()
    assert json.loads(watched[-1])["batch"]["succeeded_count"] == 1


LONG = "qQ9" * 10_000


def errors_with_long_input(http):
    """Yields answers to requests that each contain something long."""
    yield http.get(f"/v1/models/{LONG}")
    yield http.get("/v1/models", params={LONG: "1"})
    yield http.get("/v1/batch", params={"state": LONG})
    yield http.get("/v1/batch", params={"page_size": LONG})
    yield http.get("/v1/batch", params={"page_token": LONG})
    yield http.get(f"/v1/batch/{LONG}")
    yield http.get(f"/v1/{LONG}")
    yield http.get("/v1/categories", params={"version": LONG})
    yield http.get("/v1/categories", params={"model": LONG})
    yield http.get("/v1/webhooks/default/deliveries", params={"state": LONG})
    yield http.post(f"/v1/webhooks/default/deliveries/{LONG[:250]}:redeliver", json={})
    for name in ("model", "version", "topK", "explain", "webhook_url", "image_uri", LONG):
        yield http.post("/v1/classify", params={name: LONG}, content=b"")
        yield http.post("/v1/classify", data={name: LONG}, files={"image": PICTURE})
        yield http.post("/v1/classify", json={"image": B64, "options": {name: LONG}})
        yield http.post("/v1/classify", json={"image": B64, name: LONG})
        yield http.post("/v1/batch", json={"items": [{"image": B64}], name: LONG})
        yield http.post("/v1/batch", json={"items": [{"image": B64, name: LONG}]})
    for option in ("model", "include_categories"):
        yield http.post("/v1/classify", json={"image": B64, "options": {option: LONG[:256]}})
    for text in (LONG + "!", f"data:text/plain,{LONG}"):
        yield http.post("/v1/classify", json={"image": text})
        yield http.post("/v1/batch", json={"items": [{"image": text}]})
    for path in ("/v1/classify", "/v1/batch", "/v1/webhooks", f"{MODEL}:load"):
        for body in (LONG, f'{{"a": {LONG}', f'{{"{LONG}', f'{{"{LONG}": [}}', f'["{LONG}"]'):
            yield http.post(path, content=body, headers=JSON)
    yield http.post("/v1/webhooks", json={"url": LONG})
    yield http.post("/v1/webhooks", json={"url": {LONG: 1}})
    yield http.post("/v1/webhooks", json={"webhook_id": LONG, "url": "https://a.example"})
    yield http.post(f"{MODEL}:setAlias", json={"alias": LONG, "version": LONG})
    yield http.post(f"{MODEL}:setAlias", json={"alias": "canary", "canary_percent": LONG})


def test_no_error_repeats_input_at_length(http):
    answers = list(errors_with_long_input(http))
    assert len(answers) > 70
    for answer in answers:
        assert 400 <= answer.status_code < 500, (str(answer.url)[:100], answer.text[:300])
        text = json.dumps(answer.json())
        at = text.find("qQ9")
        repeated = text[at:].count("qQ9") * 3 if at >= 0 else 0
        most = (
            MAX_REPEATED_CHARACTERS * 2 if "field_violations" in text else MAX_REPEATED_CHARACTERS
        )
        assert repeated <= most, (str(answer.url)[:100], text[:1000])


def test_headers_with_underscores_are_dropped(http):
    answer = http.get("/v1/info", headers={"x_api_version": "1", "authorization_": "x"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer {}  ", "Bearer   {}", "bearer {}", "BEARER {}\t", " Bearer {} "]
)
def test_blanks_around_a_key_do_not_matter(up, admin_key, header):
    value = header.format(admin_key).encode()
    request = b"GET /v1/info HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: %s\r\n\r\n"
    assert raw(up, request % value).startswith(b"HTTP/1.1 200")
