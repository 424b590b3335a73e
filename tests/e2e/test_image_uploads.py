"""Uploads in parts through Envoy: our own REST, and the protocol tus 1.0."""

import base64
import hashlib

from tests.support.pictures import jpeg

TUS = {"tus-resumable": "1.0.0"}
BYTES = {"content-type": "application/offset+octet-stream"}


def answers(http):
    """Yields (path in the document, method, response) of every operation."""
    picture = jpeg(64, 48, 1075)
    path = "/v1/uploads/{upload_id}"
    created = http.post("/v1/uploads", json={"size_bytes": len(picture)})
    yield "/v1/uploads", "post", created
    here = f"/v1/uploads/{created.json()['upload_id']}"
    yield path, "get", http.get(here)
    yield path, "patch", http.patch(f"{here}?offset=0", content=picture)
    completed = http.post(f"{here}:complete")
    yield f"{path}:complete", "post", completed
    yield path, "delete", http.delete(here)
    http.delete(f"/v1/images/{completed.json()['image_id']}")


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def test_a_client_of_tus_uploads_an_image_in_parts(http):
    picture = jpeg(64, 48, 1076)
    size, sha256 = len(picture), hashlib.sha256(picture).hexdigest()
    metadata = f"filename {encoded('Tus 76.jpg')},tags {encoded('sea, tus')},filetype aW1hZ2U="
    length = {"upload-length": str(size), "upload-metadata": metadata}
    created = http.post("/v1/uploads", headers=TUS | length)
    assert (created.status_code, created.headers["tus-resumable"]) == (201, "1.0.0"), created.text
    here = created.headers["location"]
    assert here.startswith("/v1/uploads/u-")

    def patch(offset, content):
        at = {"upload-offset": str(offset)}
        return http.patch(here, headers=TUS | BYTES | at, content=content)

    first = patch(0, picture[:200])
    assert (first.status_code, first.content, first.headers["upload-offset"]) == (204, b"", "200")
    head = http.head(here, headers=TUS)
    assert (head.status_code, head.headers["cache-control"]) == (200, "no-store")
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("200", str(size))
    lost = patch(0, picture[:200])
    assert (lost.status_code, lost.json()["details"][0]["reason"]) == (409, "UPLOAD_OFFSET_WRONG")
    done = patch(200, picture[200:])
    assert (done.status_code, done.headers["upload-offset"]) == (204, str(size))
    image = http.get(f"/v1/images/{http.get(here).json()['image_id']}").json()
    assert (image["sha256"], image["filename"], image["tags"]) == (
        sha256,
        "Tus 76.jpg",
        ["sea", "tus"],
    )
    assert http.delete(here, headers=TUS).status_code == 204
    assert http.head(here, headers=TUS).status_code == 404
    other = http.head(here, headers={"tus-resumable": "0.2.2"})
    assert other.status_code == 412
    http.delete(f"/v1/images/{image['image_id']}")


def test_plain_rest_resumes_and_is_bounded(http):
    picture = jpeg(64, 48, 1077)
    wanted = {"size_bytes": len(picture), "sha256": hashlib.sha256(picture).hexdigest()}
    created = http.post("/v1/uploads", json=wanted).json()
    assert (created["offset"], created["image_id"]) == (0, "")
    here = f"/v1/uploads/{created['upload_id']}"
    part = http.patch(f"{here}?offset=0", content=picture[:100])
    assert (part.status_code, part.json()["offset"]) == (200, 100), part.text
    again = http.post("/v1/uploads", json=wanted).json()
    assert (here, again["offset"]) == (f"/v1/uploads/{again['upload_id']}", 100)
    assert http.patch(here, content=b"x").status_code == 400  # without an offset
    large = http.patch(f"{here}?offset=100", content=b"x" * 12_000_000)
    assert (large.status_code, large.json()["details"][0]["reason"]) == (413, "IMAGE_TOO_LARGE")
    done = http.patch(f"{here}?offset=100", content=picture[100:])
    assert done.json()["image_id"], done.text
    http.delete(f"/v1/images/{done.json()['image_id']}")


def test_pages_of_other_sites_may_use_tus(http):
    headers = {
        "origin": "https://app.example",
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "tus-resumable,upload-offset",
    }
    allowed = http.options("/v1/uploads/u-1", headers=headers)
    assert "upload-offset" in allowed.headers["access-control-allow-headers"]
