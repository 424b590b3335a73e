"""Pictures that are not quite right, through Envoy: what a caller sees of them."""

import base64
import json
import struct

import pytest
from image_categorizer import ImageCategorizationClient
from PIL import Image

from tests.e2e.test_refusals import refusal
from tests.support.pictures import encoded, jpeg, scene
from tests.support.rest_batches import all_results, finished
from tests.support.up import command

NO_END = jpeg(400, 266)[:-2]


def test_a_truncated_picture_carries_its_warning_everywhere(up, admin_key, http, tmp_path):
    first, second = (http.post("/v1/classify", content=NO_END).json() for _ in range(2))
    assert (first["warnings"], first["cache"]) == (["TRUNCATED"], "MISS")
    assert (second["warnings"], second["cache"]) == (["TRUNCATED"], "HIT")
    assert http.post("/v1/classify", content=jpeg(400, 266)).json()["warnings"] == []
    (tmp_path / "cut.jpg").write_bytes(NO_END)
    with ImageCategorizationClient(admin_key, f"localhost:{up.port}") as client:
        assert client.classify_image(NO_END).warnings == ("TRUNCATED",)
        (result,) = client.classify_stream([tmp_path / "cut.jpg"])
        assert result.classification.warnings == ("TRUNCATED",)
    shown = command("classify", tmp_path / "cut.jpg", "--data", up.data)
    assert (shown.returncode, "truncated" in shown.stderr) == (0, True)
    printed = command("classify", tmp_path / "cut.jpg", "--json", "--data", up.data).stdout
    assert json.loads(printed)["warnings"] == ["TRUNCATED"]


def test_a_batch_keeps_the_warnings_of_its_items(up, admin_key, http):
    pictures = [NO_END, jpeg(400, 266)]
    body = {"items": [{"image": base64.b64encode(picture).decode()} for picture in pictures]}
    batch_id = http.post("/v1/batch", json=body).json()["batch_id"]
    finished(http, batch_id)
    cut, whole = (r["classification"]["warnings"] for r in all_results(http, batch_id))
    assert (cut, whole) == (["TRUNCATED"], [])
    lines = http.get(f"/v1/batch/{batch_id}/results:export").text.splitlines()
    assert [json.loads(line)["warnings"] for line in lines] == [["TRUNCATED"], []]
    with ImageCategorizationClient(admin_key, f"localhost:{up.port}") as client:
        results = client.batches.results(batch_id)
        assert [r.warnings for r in results] == [("TRUNCATED",), ()]


def test_what_lacks_more_than_a_tenth_is_refused(http):
    answer = http.post("/v1/classify", content=NO_END[: len(NO_END) // 2])
    assert refusal(answer)[:2] == (400, "IMAGE_UNDECODABLE")
    assert "of its rows are there" in answer.json()["message"]


def bad_text(content: bytes) -> bytes:
    return content[:33] + struct.pack(">I4s", 3, b"tEXt") + b"a\0b" + bytes(4) + content[33:]


def opaque_bmp() -> bytes:
    image = Image.fromarray(scene(64, 48)).convert("RGBA")
    image.putalpha(0)
    return encoded(image, "BMP")


def test_pictures_that_browsers_show_are_classified(http):
    picture = scene(64, 48)
    files = [
        bad_text(encoded(picture, "PNG")),
        opaque_bmp(),
        encoded(picture, "BMP")[14:],
        encoded(picture, "TIFF", big_tiff=True),
        encoded(picture) + b"\xff\xda" * 1000,
    ]
    for content in files:
        answer = http.post("/v1/classify", content=content)
        assert (answer.status_code, answer.json().get("warnings")) == (200, []), answer.text
    twelve_bits = Image.fromarray(picture[:, :, 0].astype("uint16") * 16)
    assert http.post("/v1/classify", content=encoded(twelve_bits, "TIFF")).status_code == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ],
)
def test_other_files_are_named(http, content, words):
    answer = http.post("/v1/classify", files={"image": content})
    assert refusal(answer)[:2] == (400, "IMAGE_FORMAT_UNSUPPORTED")
    assert words in answer.json()["message"]


def test_metadata_of_hostile_pictures_is_counted_and_stays_out_of_the_log(up, http):
    secret = b"never-in-the-log"
    tag = struct.pack("<HHII", 40_000, 2, 2**30, 2**31)
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + tag * 65_535 + secret
    answer = http.post("/v1/classify", content=tiff)
    assert refusal(answer)[:2] == (400, "IMAGE_UNDECODABLE")
    assert "tags" in answer.json()["message"]
    exif = Image.Exif()
    exif[0x010E] = secret.decode()

    picture = scene(64, 48)
    for content in (
        encoded(picture, exif=exif),
        encoded(picture, "TIFF", exif=exif),
        encoded(picture, "WEBP", exif=exif),
    ):
        assert http.post("/v1/classify", content=content).status_code == 200
    for log in up.data.rglob("*.log*"):
        text = log.read_bytes()
        assert secret not in text, log
        assert b"PIL" not in text, log
