"""Confidences before calibration, by gRPC: the same network with a temperature and without."""

import json
from dataclasses import replace

import pytest
from image_categorizer_server.inference.models.repository import Repository

from tests.integration.conftest import running_server
from tests.support.pictures import jpeg
from tests.support.tiny_model import write_tiny_model
from tests.unit.conftest import add

PICTURE = jpeg()
TAXONOMY = [
    {"name": "ant", "ancestors": ["insect", "animal"]},
    {"name": "bee", "ancestors": ["insect", "animal"]},
    {"name": "cat", "ancestors": ["animal"]},
    {"name": "dog", "ancestors": ["animal"]},
]
PROBLEMS = {"softmax": {}, "sigmoid": {"problem_type": "multi_label_classification"}}


@pytest.fixture(params=PROBLEMS)
def activation(request) -> str:
    return str(request.param)


@pytest.fixture
async def client(activation, settings, tmp_path):
    """A client of a server with the models `plain` and `warm`, which has a temperature."""
    names = [entry["name"] for entry in TAXONOMY]
    source = write_tiny_model(tmp_path / "network", names, **PROBLEMS[activation])
    taxonomy = tmp_path / "taxonomy.json"
    taxonomy.write_text(json.dumps(TAXONOMY))
    repository = Repository(settings.model_path)
    add(repository, source, "plain", taxonomy=taxonomy)
    file = add(repository, source, "warm", taxonomy=taxonomy) / "manifest.json"
    described = json.loads(file.read_text())
    assert described["activation"] == activation
    file.write_text(json.dumps(described | {"temperature": 0.1}))
    async with running_server(settings) as running, await running.client() as ready:
        yield ready


def said(answer):
    return {p.category: p.confidence for p in answer.predictions}


def raw(answer):
    return {p.category: p.raw_confidence for p in answer.predictions}


async def test_the_answer_contains_what_the_network_said(client):
    plain = await client.classify_image(PICTURE, model="plain", raw_confidence=True)
    warm = await client.classify_image(PICTURE, model="warm", raw_confidence=True)
    assert raw(plain) == said(plain)
    assert raw(warm) == pytest.approx(said(plain), abs=1e-6)
    assert max(abs(said(warm)[name] - said(plain)[name]) for name in said(plain)) > 0.05
    (streamed,) = [
        result
        async for result in client.classify_stream(
            [("a", PICTURE)], model="warm", raw_confidence=True
        )
    ]
    assert streamed.predictions == warm.predictions


async def test_only_who_asks_gets_it_and_nothing_else_changes(client):
    raw_too = await client.classify_image(PICTURE, model="warm", raw_confidence=True)
    plain = await client.classify_image(PICTURE, model="warm")
    assert set(raw(plain).values()) == {None}
    assert plain.predictions == tuple(replace(p, raw_confidence=None) for p in raw_too.predictions)


async def test_a_broader_category_has_the_raw_confidence_of_all_its_outputs(client, activation):
    plain = said(await client.classify_image(PICTURE, model="plain"))
    warm = said(await client.classify_image(PICTURE, model="warm"))
    weaker, stronger = sorted(("ant", "bee"), key=warm.__getitem__)
    answer = await client.classify_image(
        PICTURE,
        model="warm",
        raw_confidence=True,
        roll_up=True,
        confidence_threshold=(warm[weaker] + warm[stronger]) / 2,
        exclude_categories=[stronger, "cat", "dog"],
    )
    combine = sum if activation == "softmax" else max
    expected = {"insect": combine((plain["ant"], plain["bee"])), weaker: plain[weaker]}
    assert list(raw(answer)) == ["insect", weaker]
    assert raw(answer) == pytest.approx(expected, abs=1e-6)
    assert said(answer)["insect"] != pytest.approx(expected["insect"], abs=1e-3)


async def test_no_category_has_no_raw_confidence(client):
    answer = await client.classify_image(
        PICTURE,
        model="warm",
        raw_confidence=True,
        roll_up=True,
        confidence_threshold=1,
        include_categories=["ant"],
    )
    assert raw(answer) == {"UNKNOWN": 0}
