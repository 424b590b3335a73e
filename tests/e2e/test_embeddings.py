"""Embeddings through Envoy: our forms, those of OpenAI's client, and similar images."""

import base64
import json
import zipfile
from pathlib import Path

import numpy as np
import openai
import pytest
from image_categorizer import ImageCategorizationClient

from tests.support.pictures import jpeg
from tests.support.up import command

pytestmark = pytest.mark.timeout(180)
CAT = (Path(__file__).parents[2] / "examples" / "cat.jpg").read_bytes()
TEXT = base64.b64encode(CAT).decode()
URL = f"data:image/jpeg;base64,{TEXT}"
PATH = "/v1/embeddings"


@pytest.fixture(scope="module")
def embedding(http) -> np.ndarray:
    answer = http.post(PATH, json={"image": TEXT})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert (found["object"], found["model"]) == ("list", "efficientnet_lite0")
    assert found["model_version"]["digest"].startswith("sha256:")
    vector = np.array(found["data"][0]["embedding"])
    assert vector.shape == (1280,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    return vector


@pytest.mark.parametrize(
    "body",
    [
        {"content": CAT},
        {"files": {"image": CAT}, "data": {"model": "efficientnet_lite0"}},
        {"json": {"input": URL, "encoding_format": "float", "user": "ann"}},
        {"json": {"input": [TEXT], "dimensions": 1280}},
    ],
)
def test_every_form_of_body_gives_the_same_embedding(http, embedding, body):
    answer = http.post(PATH, **body)
    assert answer.status_code == 200, answer.text
    assert np.array(answer.json()["data"][0]["embedding"]) @ embedding == pytest.approx(1, abs=1e-4)


def test_the_client_of_openai_embeds_images(up, admin_key, embedding):
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=admin_key, max_retries=0) as client:
        # Without `encoding_format` it asks for base64, and decodes that.
        for form in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
            found = client.embeddings.create(model="efficientnet_lite0", input=[URL, TEXT], **form)
            assert [one.index for one in found.data] == [0, 1]
            assert found.usage.total_tokens == 0
            for one in found.data:
                given = one.embedding
                if isinstance(given, str):
                    given = np.frombuffer(base64.b64decode(given), "<f4")
                assert np.array(given) @ embedding == pytest.approx(1, abs=1e-4)
        for wrong, text in (
            ({"model": "efficientnet_lite0", "dimensions": 256}, "dimensions: must be 1280"),
            ({"model": "efficientnet_lite0", "input": "a cat"}, "not an image|not base64"),
        ):
            with pytest.raises(openai.BadRequestError, match=text):
                client.embeddings.create(**{"input": URL} | wrong)
        with pytest.raises(openai.NotFoundError, match="clip"):
            client.embeddings.create(model="clip", input=URL)


def test_the_command_line_prints_a_line_for_each_image(up, embedding, tmp_path):
    (tmp_path / "a.jpg").write_bytes(CAT)
    (tmp_path / "b.jpg").write_bytes(b"no image")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as packed:
        for number in range(9):  # more than are asked for at a time
            packed.writestr(f"{number}.jpg", CAT)
    files = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.zip")]
    done = command("embed", *files, "--data", up.data)
    assert done.returncode == 1
    assert "b.jpg: " in done.stderr
    assert "1 of 11 images have no embedding" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [Path(line["filename"]).name for line in lines]
    assert names == ["a.jpg", *(f"{number}.jpg" for number in range(9))]
    for line in lines:
        assert line["model"]["digest"].startswith("sha256:")
        assert np.array(line["embedding"]) == pytest.approx(embedding, abs=1e-6)


def test_similar_images_are_found_by_rest_and_by_the_client(up, http, admin_key, viewer_key):
    stored = [
        http.post("/v1/classify?store=true", content=image).json()["image_id"]
        for image in (CAT, jpeg(seed=1), jpeg(seed=2))
    ]
    path = f"/v1/images/{stored[0]}:similar"
    found = http.get(path, params={"limit": 2}, headers={"authorization": f"Bearer {viewer_key}"})
    assert found.status_code == 200, found.text
    images = found.json()["images"]
    assert len(images) == 2
    assert stored[0] not in {one["image"]["image_id"] for one in images}
    like = http.post("/v1/images:similar", json={"image": TEXT, "limit": 1}).json()["images"]
    assert like[0]["image"]["image_id"] == stored[0]
    assert like[0]["similarity"] == pytest.approx(1, abs=1e-2)
    with ImageCategorizationClient(admin_key, up.url) as client:
        similar = client.images.similar(stored[0], limit=2)
        assert [one.image.image_id for one in similar] == [
            one["image"]["image_id"] for one in images
        ]
        assert client.images.like(CAT, limit=1)[0].image.image_id == stored[0]
        assert len(client.embed(CAT).vector) == 1280
        client.images.delete(similar[0].image.image_id)
        left = {one.image.image_id for one in client.images.similar(stored[0])}
        assert similar[0].image.image_id not in left
        for image_id in set(stored) - {similar[0].image.image_id}:
            client.images.delete(image_id)
