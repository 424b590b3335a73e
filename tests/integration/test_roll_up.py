"""Whether requests that do not say roll up: the model's manifest, else the server's settings."""

import json

import pytest
from image_categorizer_server.inference.models.repository import Repository

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg
from tests.unit.conftest import add

PICTURE = jpeg()
TAXONOMY = [
    {"name": "ant", "ancestors": ["insect", "animal"]},
    {"name": "bee", "ancestors": ["insect", "animal"]},
    {"name": "cat", "ancestors": ["animal"]},
    {"name": "dog", "ancestors": ["animal"]},
]


@pytest.fixture
def settings_with(settings, small, tmp_path):
    """Returns settings with the server's default, and with a model that has its own."""

    def made(server: bool, manifest: bool | None):
        taxonomy = tmp_path / "taxonomy.json"
        taxonomy.write_text(json.dumps(TAXONOMY))
        folder = add(Repository(settings.model_path), small, "animals", taxonomy=taxonomy)
        file = folder / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"roll_up": manifest}))
        changes = {"default": "animals", "roll_up": server, "roll_up_threshold": 0.9}
        models = settings.models.model_copy(update=changes)
        return settings.model_copy(update={"models": models})

    return made


@pytest.mark.parametrize(
    ("server", "manifest", "asked", "is_rolled"),
    [
        (False, None, None, False),
        (True, None, None, True),
        (True, False, None, False),
        (False, True, None, True),
        (False, True, False, False),
        (True, False, True, True),
    ],
)
async def test_the_request_decides_then_the_model_then_the_server(
    settings_with, server, manifest, asked, is_rolled
):
    options = {} if asked is None else {"roll_up": asked}
    settings = settings_with(server, manifest)
    async with running_server(settings) as running, await running.client() as client:
        answer = await client.classify_image(PICTURE, **options)
        (streamed,) = [r async for r in client.classify_stream([("a", PICTURE)], **options)]
    # An untrained network is sure of nothing but that it is an animal.
    assert (answer.category == "animal") is is_rolled
    assert streamed.category == answer.category
    assert len(answer.predictions) == (5 if is_rolled else 4)
    if is_rolled:
        assert answer.confidence == pytest.approx(1)
