"""The accuracy of boxes: photographs pasted into backgrounds, with a real server."""

import asyncio
import io
import json
from collections import defaultdict
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from image_categorizer_server.domain.access import Role
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.localize import Features, Localizer
from image_categorizer_server.inference.images.preprocess import MAX_PICTURE_BYTES, Preprocessor
from image_categorizer_server.inference.models.export import WEIGHTS_FILE, ensure_export
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.packaging.efficientnet_lite import (
    installed_weights,
    write_version,
)
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from PIL import Image

from tests.conftest import EXPORTS
from tests.integration.conftest import running_server
from tests.unit.conftest import LIMITS, add

pytestmark = pytest.mark.timeout(300)
WIDTH_PX, HEIGHT_PX = 640, 480
# The side of the pasted square: a tenth to a third of the image's area.
MIN_PX, MAX_PX = 160, 320
# The part that a network sees which crops 224 from 256 pixels.
LITE0 = "efficientnet_lite0"
SEEN = (110, 30, 530, 450)
MIDDLE = (200, 120, 440, 360)


def background(random, kind):
    if kind == 0:
        cells = random.integers(0, 256, (1, 1, 3), dtype=np.uint8)
    elif kind == 1:
        cells = random.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    else:
        cells = random.integers(0, 256, (3 * kind, 4 * kind, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)


def square(photograph, side_px):
    shorter = min(photograph.size)
    left, top = (photograph.width - shorter) // 2, (photograph.height - shorter) // 2
    middle = photograph.crop((left, top, left + shorter, top + shorter))
    return middle.resize((side_px, side_px), Image.Resampling.BILINEAR)


@pytest.fixture(scope="module")
def scenes(test_data):
    """(JPEG file, box of the photograph, index of its ImageNet category) of each scene."""
    folder = test_data / "images" / "labelled"
    random = np.random.default_rng(1)
    made = []
    for number, entry in enumerate(
        json.loads((folder / "validation_set.json").read_text())["images"]
    ):
        side_px = int(random.integers(MIN_PX, MAX_PX + 1))
        left = int(random.integers(SEEN[0], SEEN[2] - side_px + 1))
        top = int(random.integers(SEEN[1], SEEN[3] - side_px + 1))
        scene = background(random, number % 4)
        with Image.open(folder / entry["file"]) as photograph:
            scene.paste(square(photograph.convert("RGB"), side_px), (left, top))
        file = io.BytesIO()
        scene.save(file, "JPEG", quality=90)
        made.append((file.getvalue(), (left, top, left + side_px, top + side_px), entry["index"]))
    return made


def overlap(one, other):
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (sum(areas) - common)


def has_centre(box, square):
    across, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return square[0] <= across < square[2] and square[1] <= down < square[3]


def quality(boxes, squares):
    """Returns the share of boxes with their centre in their square, and the mean overlap."""
    pairs = list(zip(boxes, squares, strict=True))
    return (
        sum(has_centre(*pair) for pair in pairs) / len(pairs),
        sum(overlap(*pair) for pair in pairs) / len(pairs),
    )


@pytest.mark.parametrize(
    ("name", "localization", "measured"),
    [
        pytest.param(LITE0, "CLASS_ACTIVATION", (1.0, 0.701), marks=pytest.mark.slow),
        ("mobilenet_v2", "CLASS_ACTIVATION", (0.994, 0.650)),
        pytest.param(
            *("deit_tiny", "ATTENTION_ROLLOUT", (1.0, 0.775)),
            marks=pytest.mark.slow,
        ),
    ],
)
async def test_boxes_surround_the_pasted_photograph(
    test_data, scenes, settings, name, localization, measured
):
    repository = Repository(settings.model_path)
    with repository.incoming() as incoming:
        if name == LITE0:
            manifest = write_version(name, 1, installed_weights(name), incoming)
        else:
            manifest = copy_model(test_data / "models" / name, incoming, Labels(name, 1))
        repository.publish(incoming, manifest)
    async with running_server(settings) as server, await server.client() as client:
        model = next(m for m in await client.models.list() if m.name == name)
        categories = [entry.category for entry in await client.models.categories(name)]
        at_once = asyncio.Semaphore(8)

        async def classified(content, index):
            async with at_once:  # on a slow machine, the last of all at once would be late
                return await client.classify_image(
                    content,
                    model=name,
                    include_categories=[categories[index]],
                    bounding_boxes=True,
                )

        results = await asyncio.gather(
            *(classified(content, index) for content, _, index in scenes)
        )
        explained = await client.classify_image(
            scenes[0][0], model=name, include_categories=[categories[scenes[0][2]]], explain=True
        )
        plain = await client.classify_image(scenes[0][0], model=name)
    assert model.localization == localization
    squares = [square for _, square, _ in scenes]
    boxes = [result.predictions[0].bounding_box for result in results]
    found = quality(boxes, squares)
    print(f"{name}: centre inside {found[0]:.3f}, mean IoU {found[1]:.3f}")
    assert found == pytest.approx(measured, abs=0.01)
    for other in (boxes[1:] + boxes[:1], [MIDDLE] * len(squares)):  # chance
        by_chance = quality(other, squares)
        assert found[0] > by_chance[0] + 0.08
        assert found[1] > by_chance[1] + 0.1
    assert plain.predictions[0].bounding_box is None
    assert (plain.heat_map, explained.predictions[0].bounding_box) == (b"", None)
    check_warmest(explained.heat_map, squares[0])


def centre_px(localizer, values, side_px):
    """Returns the distance of a heat map's centre from the left edge, in pixels of the input."""
    black = np.zeros((side_px, side_px, 3), np.uint8)
    drawn = np.asarray(Image.open(io.BytesIO(localizer.heat_map(black, values))))
    by_column = drawn[..., 0].sum(0)
    return by_column @ (np.arange(side_px) + 0.5) / by_column.sum()


# On a regular grid: a shift of -4.3 px and an overlap of 0.609; -1.3 px and 0.668.
@pytest.mark.parametrize(("name", "overlap"), [("mobilenet_v2", 0.62), (LITE0, 0.669)])
async def test_the_heat_map_of_a_mirror_image_is_the_mirrored_heat_map(
    test_data, scenes, tmp_path, name, overlap
):
    if name == LITE0:
        folder = tmp_path
        write_version(name, 1, installed_weights(name), folder)
    else:
        folder = add(Repository(tmp_path), test_data / "models" / name, name)
    manifest = read_manifest(folder)
    spec = manifest.input
    file, report = await ensure_export(folder, manifest, EXPORTS, 120)
    runtime, weights = OnnxRuntime(file, threads=0, runners=1), file.parent / WEIGHTS_FILE
    localizer, over_input = (
        Localizer.read(report.localization, weights, seen, report.cell_offset)
        for seen in (spec, spec.model_copy(update={"resize": "exact"}))
    )
    preprocessor = Preprocessor(Decoder(LIMITS), spec)
    shifts_px, boxes = [], []
    for content, _, index in scenes:
        seen = preprocessor.prepare(content).array
        answer = runtime.predict([seen, seen[:, ::-1]], with_features=True)
        maps = [localizer.maps(features, [index]) for features in answer.features]
        centres_px = (centre_px(over_input, values[0], spec.width_px) for values in maps)
        shifts_px.append((sum(centres_px) - spec.width_px) / 2)
        features = Features(answer.features[0])
        boxes.append(localizer.boxes(features, [index], (WIDTH_PX, HEIGHT_PX))[0][0])
    assert abs(np.mean(shifts_px)) <= 0.5
    assert quality(boxes, [square for _, square, _ in scenes])[1] >= overlap


def check_warmest(heat_map, square):
    left, top, right, bottom = square
    drawn = np.asarray(Image.open(io.BytesIO(heat_map))).astype(int)
    assert drawn.shape == (HEIGHT_PX, WIDTH_PX, 3)
    row, column = np.unravel_index((drawn[..., 0] - drawn[..., 2]).argmax(), drawn.shape[:2])
    assert left <= column < right
    assert top <= row < bottom


def large_webp():
    """Returns a WebP of 6 megapixels, which takes longest to decode."""
    cells = np.random.default_rng(3).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(cells).resize((2000, 3000)).save(file, "WEBP", quality=60)
    return file.getvalue()


def events_of(trace):
    """Returns the events of each image, in their order."""
    events = defaultdict(list)
    for line in trace.read_text().splitlines():
        entry = json.loads(line)
        for number in entry.get("ids", [entry.get("id")]):
            events[number].append(entry["event"])
    return events


def with_test(settings, trace, **inference):
    changed = {
        "test": settings.test.model_copy(update={"trace": str(trace)}),
        "inference": settings.inference.model_copy(update=inference),
    }
    return settings.model_copy(update=changed)


async def test_boxes_and_heat_maps_need_one_decoding_and_are_scheduled_work(settings, tmp_path):
    trace, content = tmp_path / "trace", large_webp()
    wanted = {"bounding_boxes": True, "explain": True}
    plain, done = ["admit", "decode", "batch"], ["whole", "locate", "result"]
    traced = with_test(settings, trace)
    async with running_server(traced) as server, await server.client() as client:
        await client.classify_image(content)
        await asyncio.gather(*(client.classify_image(content, **wanted) for _ in range(3)))
    assert list(events_of(trace).values()) == [[*plain, "result"]] + [plain + done] * 3


def reason_of(error):
    """Returns the reason of a refusal; empty if it has none."""
    packed = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    info = error_details_pb2.ErrorInfo()
    any(detail.Unpack(info) for detail in status_pb2.Status.FromString(packed).details)
    return info.reason


async def test_too_many_heat_maps_at_once_are_refused(settings, tmp_path):
    trace, content = tmp_path / "trace", large_webp()
    # Two pictures for heat maps have room.
    bound = {"max_queued_bytes": 2 * (MAX_PICTURE_BYTES + len(content))}
    async with running_server(with_test(settings, trace, **bound)) as server:
        metadata = (("authorization", f"Bearer {await server.key(Role.CLASSIFIER)}"),)
        request = classify_pb2.ClassifyRequest(image=content, options={"explain": True})
        async with grpc.aio.insecure_channel(server.address) as channel:
            classify = classify_pb2_grpc.ClassifyServiceStub(channel).Classify
            await classify(request, metadata=metadata)
            answers = await asyncio.gather(
                *(classify(request, metadata=metadata) for _ in range(12)), return_exceptions=True
            )
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert {reason_of(error) for error in refused} <= {"QUEUE_FULL", "DEADLINE_UNREACHABLE"}
    assert 12 > len(refused) >= 4
    assert all(answer.heat_map for answer in answers if answer not in refused)
    assert sum("locate" in events for events in events_of(trace).values()) == 13 - len(refused)


async def test_boxes_and_heat_map_are_in_pixels_of_the_upright_image(server):
    content = (Path(__file__).parents[2] / "examples" / "cat.jpg").read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        width_px, height_px = picture.size
    async with await server.client() as client:
        result = await client.classify_image(content, bounding_boxes=True, explain=True)
    boxes = [prediction.bounding_box for prediction in result.predictions]
    assert len(boxes) == 4
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width_px
        assert 0 <= top < bottom <= height_px
    drawn = Image.open(io.BytesIO(result.heat_map))
    assert (drawn.format, max(drawn.size)) == ("PNG", min(1024, max(width_px, height_px)))
