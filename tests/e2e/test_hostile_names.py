"""Names that would be paths, headers or commands elsewhere are only text here."""

import base64
import csv
import io
import re

import pytest

from tests.support.rest_batches import PICTURES, all_results, finished

IMAGE = base64.b64encode(PICTURES[0]).decode()
NAMES = [
    *("../../../etc/passwd", "..\\..\\windows\\win.ini", "/etc/passwd", "C:\\a.jpg", "~root/x"),
    *("a\r\nset-cookie: session=1\r\n\r\n<script>", "a\nX-Injected: 1", '"; filename="b.html'),
    *("gnp.\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", "a\x1b[2Jb", "<img src=x onerror=alert(1)>"),
    *("=cmd|'/c calc'!A1", "$(reboot)", "' OR 1=1 --", "%2e%2e%2f", "con", ".", "..", " "),
    *("\N{ZERO WIDTH SPACE}", "\N{CAMERA}" * 1024),
]
TOO_LONG = "a" * 4096
STORED = re.compile(r"[A-Za-z0-9_-]+/images/([0-9a-f]{2})/\1[0-9a-f]{62}")


@pytest.fixture(scope="module")
def batch_id(http):
    items = [{"image": IMAGE, "filename": name} for name in NAMES]
    answer = http.post("/v1/batch", json={"items": items})
    assert answer.status_code == 200, answer.text
    batch_id = str(answer.json()["batch_id"])
    assert finished(http, batch_id)["succeeded_count"] == len(NAMES)
    return batch_id


def test_names_come_back_as_they_were_sent(http, batch_id):
    assert [result["filename"] for result in all_results(http, batch_id)] == NAMES


def test_what_is_stored_is_named_by_its_content(up, batch_id):
    images = up.data / "images"
    # What the server itself stores starts with an underscore, as no tenant does.
    found = [str(file.relative_to(images)) for file in images.glob("[!_]*/**/*") if file.is_file()]
    assert found
    assert [name for name in found if not STORED.fullmatch(name)] == []


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_an_export_is_a_download_whose_headers_hold_no_name(http, batch_id, kind):
    answer = http.get(f"/v1/batch/{batch_id}/results:export", params={"format": kind})
    disposition = f'attachment; filename="{batch_id}.{kind}"'
    assert answer.headers["content-disposition"] == disposition
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not {"set-cookie", "x-injected"} & set(answer.headers)
    if kind == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert len(rows) == len(NAMES)
        assert not any(row["filename"].startswith(("=", "@")) for row in rows)


@pytest.mark.parametrize("name", [TOO_LONG, "a\0b", "\ud800.jpg"], ids=["long", "NUL", "surrogate"])
def test_a_name_that_cannot_be_stored_is_refused(http, name):
    written = {"a\0b": "a\\u0000b", "\ud800.jpg": "\\ud800.jpg"}.get(name, name)
    body = f'{{"items": [{{"image": "{IMAGE}", "filename": "{written}"}}]}}'
    headers = {"content-type": "application/json"}
    answer = http.post("/v1/batch", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["reason"] == "FIELD_INVALID"
    assert "filename" in answer.json()["message"] or name == "\ud800.jpg"


@pytest.mark.parametrize("name", [TOO_LONG, "a%00b", "%ff"], ids=["long", "NUL", "not UTF-8"])
def test_a_form_with_such_a_name_is_refused_or_read(http, name):
    head = f'--B\r\ncontent-disposition: form-data; name="images[]"; filename="{name}"\r\n\r\n'
    body = head.encode() + PICTURES[1] + b"\r\n--B--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=B"}
    answer = http.post("/v1/batch", content=body, headers=headers)
    assert answer.status_code in (200, 400), answer.text
    if name == TOO_LONG:
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/batch/..%5c..%5cdefault", "/v1/batch/other%2fimages", "/v1/batch/%2e%2e"),
        *("/v1/batch/b-1%0d%0aset-cookie:%20a=1", "/v1/batch/default:images", "/v1/models/..%00"),
        *("/v1/webhooks/%E2%80%AEx", "/v1/batch/'%20OR%201=1", f"/v1/batch/{TOO_LONG}"),
    ],
)
def test_an_identifier_is_no_path_and_no_header(http, path):
    answer = http.get(path)
    assert answer.status_code in (400, 404), answer.text
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-type"] == "application/json"
