"""ONNX files and int8 versions, from the command line to a running server's answer."""

import asyncio
import json
import sys

import pytest
from image_categorizer_server.inference.models.repository import Repository, manifest_of

from tests.conftest import EXPORTS
from tests.integration.conftest import running_server
from tests.support.pictures import jpeg
from tests.support.polling import eventually
from tests.support.tiny_onnx import write_tiny_onnx

CATEGORIES = ["ant", "bee", "cat"]


async def models(settings, *words, **variables):
    """Runs `image-categorizer models`; returns the exit status and the output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "image_categorizer_server",
        "models",
        *map(str, words),
        env={
            "MODEL_PATH": str(settings.model_path),
            "CATEGORIZER_MODELS__CACHE_PATH": str(EXPORTS),
            "CATEGORIZER_MODELS__PACKAGED": "false",  # as in `settings`
            "COLUMNS": "200",
            "HF_HUB_OFFLINE": "1",
        }
        | variables,
        cwd=settings.model_path.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """24 files, each in the folder of a category."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(24):
        file = folder / CATEGORIES[seed % 3] / f"{seed}.jpg"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(jpeg(seed=seed))
    return folder


@pytest.mark.slow
async def test_an_onnx_file_is_added_quantized_and_served_as_the_newest_version(
    settings, tmp_path, pictures
):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES, name="net.onnx")
    status, output = await models(settings, "add", "mine", file)
    assert (status, "3 categories, input 16 x 16" in output) == (0, True), output
    assert "No preprocessor_config.json, so: shortest edge to 18" in output
    async with running_server(settings) as server, await server.client() as client:
        server.backend.tasks.start(server.backend.registry.watch(), "model watcher")
        first = await client.classify_image(jpeg(seed=1), model="mine", top_k=3)
        assert first.model.version == "1"
        given = ("--calibrate", pictures, "--evaluate", pictures, "--max-loss", "100")
        status, output = await models(settings, "quantize", "mine", *given)
        assert status == 0, output
        assert "right on 24 labelled pictures: fp32 " in output
        assert "Images/s on one thread: fp32 " in output
        assert "Added mine, version 2, int8, sha256:" in output

        async def is_new():
            answer = await client.classify_image(jpeg(seed=1), model="mine", top_k=3)
            return answer.model.version == "2"

        await eventually(is_new, 60)
        answer = await client.classify_image(jpeg(seed=1), model="mine", top_k=3)
        assert answer.category == first.category
        assert answer.confidence == pytest.approx(first.confidence, abs=0.1)
        old = await client.classify_image(jpeg(seed=1), model="mine", version="1")
        assert old.confidence == pytest.approx(first.confidence, abs=1e-5)
    status, output = await models(settings, "verify")
    assert (status, output.count("matches its manifest")) == (0, 3), output
    status, output = await models(settings, "list", "--json")
    listed = {
        (m["name"], m["version"]): (m["format"], m["precision"])
        for m in json.loads(output[output.index("[") :])
    }
    assert listed["mine", 1] == ("onnx", "fp32")
    assert listed["mine", 2] == ("onnx", "int8")
    assert (await models(settings, "remove", "mine"))[0] == 0


async def test_a_refused_model_exits_with_1_and_one_sentence(settings, tmp_path, pictures):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    (file.parent / "labels.txt").write_text("ant\nbee\n")
    status, output = await models(settings, "add", "mine", file.parent)
    # The first line names the repository.
    assert (status, len(output.strip().splitlines())) == (1, 2), output
    assert "has 2 labels, but the graph returns 3 numbers" in output
    write_tiny_onnx(tmp_path / "source", CATEGORIES)
    assert (await models(settings, "add", "mine", file.parent))[0] == 0
    status, output = await models(settings, "add", "mine", file.parent)
    assert (status, "has the same files already" in output) == (1, True), output
    status, output = await models(
        settings,
        "quantize",
        "mine",
        "--calibrate",
        pictures,
        CATEGORIZER_MODELS__QUANTIZE_MIN_PICTURES="100",
    )
    assert (status, "too few calibration pictures (24): provide at least 100" in output) == (
        1,
        True,
    ), output
    assert [f.version for f in Repository(settings.model_path).scan() if f.name == "mine"] == [1]


@pytest.mark.slow
async def test_mobilenet_is_as_accurate_in_int8_as_in_fp32(settings, test_data):
    labelled = test_data / "images" / "labelled"
    status, output = await models(
        settings, "add", "mobilenet", test_data / "models" / "mobilenet_v2"
    )
    assert status == 0, output
    status, output = await models(
        settings,
        "quantize",
        "mobilenet",
        "--calibrate",
        labelled,
        "--evaluate",
        labelled / "validation_set.json",
    )
    assert status == 0, output
    assert "right on 164 labelled pictures: fp32 91.5 %" in output
    newest = max(
        (f for f in Repository(settings.model_path).scan() if f.name == "mobilenet"),
        key=lambda found: found.version,
    )
    assert (newest.version, manifest_of(newest).precision) == (2, "int8")
    content = (labelled / "n02119022_red_fox.JPEG").read_bytes()
    async with running_server(settings) as server, await server.client() as client:
        answer = await client.classify_image(content, model="mobilenet", bounding_boxes=True)
        whole = await client.classify_image(
            content, model="mobilenet", version="1", bounding_boxes=True
        )
    assert (answer.model.version, answer.category) == ("2", "red fox, Vulpes vulpes")
    assert overlap(answer.predictions[0].bounding_box, whole.predictions[0].bounding_box) > 0.7


def overlap(one, other):
    """Returns the intersection of two boxes over their union."""
    left, top = (max(one[i], other[i]) for i in (0, 1))
    right, bottom = (min(one[i], other[i]) for i in (2, 3))
    both = max(right - left, 0) * max(bottom - top, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)
