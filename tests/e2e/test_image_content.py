"""The content of stored images through the gateway: sizes, formats, caches and parts."""

import base64
import io

from PIL import Image

from tests.support.pictures import jpeg

CANARY = b"CANARY-7F3A"


def test_content_is_made_for_browsers_and_caches(http):
    content = jpeg(400, 300, seed=77, comment=CANARY) + CANARY
    body = {"image": base64.b64encode(content).decode(), "filename": "größe.jpg"}
    image = http.post("/v1/images", json=body).json()
    assert image["facts"]["dominant_colours"]
    assert (image["has_metadata"], image["content_url"]) == (False, "")
    path = f"/v1/images/{image['image_id']}/content"
    answer = http.get(path, params={"width": 100, "format": "webp"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert (shown.size, shown.format) == ((100, 75), "WEBP")
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == (
        "inline; filename=\"gr__e.webp\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.webp"
    )
    assert answer.headers["content-length"] == str(len(answer.content))
    again = http.get(
        path,
        params={"width": 100, "format": "webp"},
        headers={"if-none-match": answer.headers["etag"]},
    )
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]
    assert "content-length" not in again.headers
    whole = http.get(path)
    assert CANARY not in whole.content
    part = http.get(path, headers={"range": "bytes=100-199", "if-range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    beyond = http.get(path, headers={"range": "bytes=9999999-"})
    assert (beyond.status_code, beyond.content) == (416, b"")
    head = http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == whole.headers["etag"]
    wrong = http.get(path, params={"format": "svg"})
    assert wrong.json()["details"][0]["reason"] == "FIELD_INVALID"
    assert http.get("/v1/images/i-unknown/content").status_code == 404
