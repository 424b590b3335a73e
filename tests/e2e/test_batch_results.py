"""What comes out of batches, through Envoy: large pages, file names, exports."""

import base64
import csv
import io

import grpc
import pytest
from image_categorizer import ImageCategorizationClient
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc

from tests.support.rest_batches import all_results, finished

pytestmark = pytest.mark.timeout(180)
COUNT = 1000
LONG = "\N{CAMERA}" * 1024
PDF = b"%PDF-1.7"


@pytest.fixture(scope="module")
def wide(http) -> str:
    """A batch of more than 4 MB of results: each has the longest name that a file may have."""
    items = [{"image": base64.b64encode(PDF).decode(), "filename": LONG}] * COUNT
    answer = http.post("/v1/batch", json={"items": items})
    assert answer.status_code == 200, answer.text[:500]
    batch_id = str(answer.json()["batch_id"])
    assert finished(http, batch_id)["failed_count"] == COUNT
    return batch_id


def test_large_results_come_in_several_pages(http, wide):
    first = http.get(f"/v1/batch/{wide}/results", params={"page_size": 1000})
    assert first.status_code == 200, first.text[:500]
    assert len(first.json()["results"]) < COUNT
    assert first.json()["next_page_token"]
    found = all_results(http, wide)
    assert [result["item_id"] for result in found] == [str(number) for number in range(COUNT)]
    assert {result["filename"] for result in found} == {LONG}


def test_a_page_fits_a_grpc_client_with_its_usual_limit(up, admin_key, wide):
    with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
        page = batch_pb2_grpc.BatchServiceStub(channel).ListBatchResults(
            batch_pb2.ListBatchResultsRequest(batch_id=wide, page_size=1000),
            metadata=[("authorization", f"Bearer {admin_key}")],
            timeout=30,
        )
    assert page.ByteSize() <= 2**20 + len(page.next_page_token) + 3
    assert page.next_page_token


def test_the_sdk_reads_all_pages_and_whole_exports(up, admin_key, wide):
    with ImageCategorizationClient(api_key=admin_key, base_url=up.url) as client:
        assert len(list(client.batches.results(wide))) == COUNT
        exported = b"".join(client.batches.export(wide))
    assert exported.count(b"\n") == COUNT


def test_names_come_back_as_their_senders_meant_them(http):
    sent = [
        (b"filename=\"=?utf-8?B?R3LDtsOfZS5qcGc=?=\"; filename*=utf-8''Gr%C3%B6%C3%9Fe.jpg"),
        'filename="Größe.jpg"'.encode("latin-1"),
        b'filename="C:\\photos\\a.jpg"',
        b'filename="a %22b%22.jpg"',
        b'filename="=1+1.jpg"',
        b'filename="' + "写".encode() * 1000 + b'"',
    ]
    names = ["Größe.jpg", "Größe.jpg", "a.jpg", 'a "b".jpg', "=1+1.jpg", "写" * 1000]
    head = b'--B\r\nContent-Disposition: form-data; name="images[]"; '
    body = b"".join(head + name + b"\r\n\r\n" + PDF + b"\r\n" for name in sent) + b"--B--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=B"}
    answer = http.post("/v1/batch", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    batch_id = answer.json()["batch_id"]
    finished(http, batch_id)
    assert [result["filename"] for result in all_results(http, batch_id)] == names
    path = f"/v1/batch/{batch_id}/results:export"
    table = http.get(path, params={"format": "csv", "bom": "true"})
    assert table.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert table.content.startswith(b"\xef\xbb\xbfitem_id,")
    rows = list(csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"), newline="")))
    assert [row["filename"] for row in rows] == [*names[:4], "'=1+1.jpg", names[5]]
    assert http.get(path, params={"bom": "true"}).status_code == 400
