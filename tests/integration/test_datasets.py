"""Exports of stored images as labelled sets."""

import io
import json
import tarfile

import pytest
from image_categorizer import InvalidRequest
from image_categorizer_server.domain.access import Role
from image_categorizer_server.inference.evaluation.dataset import read_labelled_set
from PIL import Image

from tests.support.pictures import encoded, jpeg, scene

pytestmark = pytest.mark.usefixtures("every_tenant")


async def exported(client, folder, **options):
    """Unpacks an export; returns its manifest and the lines of its labels."""
    content = b"".join([piece async for piece in client.images.export(**options)])
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|") as opened:
        opened.extractall(folder, filter="data")
    lines = (folder / "labels.jsonl").read_text().splitlines()
    return json.loads((folder / "manifest.json").read_text()), list(map(json.loads, lines))


@pytest.fixture
async def judged(client):
    """Stored images by what people say about them; `unreviewed` they have not judged."""
    found = {}
    for seed, name in enumerate(["right", "wrong", "none", "unreviewed"]):
        found[name] = await client.classify_image(jpeg(64, 48, seed), store=True)
    await client.feedback.confirm(found["right"].image_id)
    other = min({"ant", "bee", "cat", "dog"} - {found["wrong"].category})
    await client.images.correct(found["wrong"].image_id, other)
    await client.feedback.reject(found["none"].image_id)
    return {
        "right": (found["right"].image_id, found["right"].category),
        "wrong": (found["wrong"].image_id, other),
        "none": (found["none"].image_id, "UNKNOWN"),
        "unreviewed": (found["unreviewed"].image_id, found["unreviewed"].category),
    }


async def test_an_export_has_the_categories_that_people_say(client, judged, tmp_path):
    manifest, lines = await exported(client, tmp_path)
    labels = {line["image_id"]: line["category"] for line in lines}
    assert labels == dict(judged[name] for name in ("right", "wrong", "none"))
    assert (manifest["images"], manifest["lost"], manifest["parts"]) == (3, 0, {"images": 3})
    for line in lines:
        assert line["file"] == f"images/{line['category']}/{line['image_id']}.jpeg"
        with Image.open(tmp_path / line["file"]) as opened:
            assert opened.size == (64, 48)
    everything, lines = await exported(client, tmp_path / "all", include_unreviewed=True)
    assert everything["images"] == 4
    assert {line["image_id"]: line["category"] for line in lines} == dict(judged.values())
    reviewed = {line["image_id"] for line in lines if line["is_reviewed"]}
    assert judged["unreviewed"][0] not in reviewed
    assert len(reviewed) == 3


async def test_folders_and_set_files_are_labelled_sets(client, judged, tmp_path):
    folder = tmp_path / "set"
    _, lines = await exported(client, folder)
    labels = {line["file"]: line["category"] for line in lines}
    by_folder = read_labelled_set(folder / "images")
    assert {f"images/{p.name}": p.label for p in by_folder.pictures} == labels
    by_file = read_labelled_set(folder / "images.json")
    assert {p.name: p.label for p in by_file.pictures} == labels
    assert all(picture.file.is_file() for picture in by_file.pictures)


async def test_a_split_is_the_same_each_time_and_is_all_images(client, tmp_path):
    for seed in range(24):
        answer = await client.classify_image(jpeg(32, 32, seed), store=True)
        await client.feedback.confirm(answer.image_id)
    options = {"validation_percent": 25, "test_percent": 25, "seed": "a"}
    contents = [
        b"".join([piece async for piece in client.images.export(**options)]) for _ in range(2)
    ]
    assert contents[0] == contents[1]
    manifest, lines = await exported(client, tmp_path, **options)
    assert set(manifest["parts"]) == {"train", "validation", "test"}
    assert sum(manifest["parts"].values()) == len(lines) == 24
    names = set()
    for part, count in manifest["parts"].items():
        pictures = read_labelled_set(tmp_path / f"{part}.json").pictures
        assert len(pictures) == count
        names |= {picture.name for picture in pictures}
    assert names == {line["file"] for line in lines}
    empty, _ = await exported(client, tmp_path / "empty", **options, tags=["none"])
    assert empty["images"] == 0
    assert read_labelled_set(tmp_path / "empty" / "test.json").pictures == ()


async def test_no_metadata_leaves_with_an_export(server, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "SECRET PLACE"
    content = encoded(Image.fromarray(scene(64, 48)), exif=exif)
    async with await server.client(Role.ADMIN) as admin:
        kept = await admin.images.upload(content, keep_metadata=True)
        await admin.classify_image(image_id=kept.image_id, store=True)
        await admin.feedback.confirm(kept.image_id)
        _, (line,) = await exported(admin, tmp_path)
        actions = {event.action async for event in admin.audit.list()}
    assert b"SECRET" in content
    assert b"SECRET" not in (tmp_path / line["file"]).read_bytes()
    assert "dataset.export" in actions


async def test_wrong_options_are_named(client):
    for options, message in [
        ({"test_percent": 101}, "test_percent"),
        ({"validation_percent": -1}, "validation_percent"),
        ({"validation_percent": 60, "test_percent": 50}, "at most 100 with"),
        ({"seed": "s" * 65}, "seed"),
        ({"model": "m" * 257}, "model"),
    ]:
        with pytest.raises(InvalidRequest, match=message):
            assert [piece async for piece in client.images.export(**options)]
    with pytest.raises(TypeError, match="colour"):
        assert [piece async for piece in client.images.export(colour="red")]
