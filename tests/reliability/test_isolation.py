"""Every image gets its own answer, whatever else is in its micro-batch and whatever fails."""

import asyncio
import itertools

import grpc
import numpy as np
import pytest
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from PIL import Image

from tests.support.pictures import encoded, scene
from tests.support.polling import eventually
from tests.support.tiny_model import write_tiny_model
from tests.support.up import command

pytestmark = pytest.mark.timeout(300)
MODES = {"RGB": "JPEG", "L": "JPEG", "CMYK": "JPEG", "P": "PNG", "RGBA": "PNG", "1": "PNG"}
SIZES_PX = [(1, 1), (7, 60), (64, 48), (200, 150), (640, 30), (500, 375)]
BAD = [b"", b"no image", b"\xff\xd8\xff", b"%PDF-1.7", b"GIF89a"]
STREAMS, UNARY_CLIENTS = 4, 32
OPTIONS = classify_pb2.ClassifyOptions(model="tiny", top_k=10, no_cache=True)
Config = classify_pb2.ClassifyStreamConfig


def pictures():
    """Returns 72 valid files of all modes and sizes, all different, and some invalid ones."""
    files = []
    for seed in range(2):
        for (mode, image_format), (width, height) in itertools.product(MODES.items(), SIZES_PX):
            picture = Image.fromarray(scene(width, height, seed=len(files) + seed))
            files.append(encoded(picture.convert(mode), image_format))
    cut = encoded(scene(300, 200))
    return [*files, *BAD, cut[: len(cut) // 2]]


def confidences(response):
    return {p.category: p.confidence for p in response.predictions}


class Caller:
    """Classifies images over one connection."""

    def __init__(self, channel, key):
        self.stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        self.headers = (("authorization", f"Bearer {key}"),)

    async def one(self, content):
        """Returns confidences by category and the micro-batch size, or the status of an error."""
        request = classify_pb2.ClassifyRequest(image=content, options=OPTIONS)
        try:
            response = await self.stub.Classify(request, metadata=self.headers, timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return confidences(response), response.timing.batch_size

    async def stream(self, lane, contents, indices):
        """Yields the index and the answer of each image, in the order of the answers."""

        def messages():
            yield classify_pb2.ClassifyStreamRequest(config=Config(options=OPTIONS, lane=lane))
            for number, index in enumerate(indices):
                item = {"key": f"{number}/{index}", "image": contents[index]}
                yield classify_pb2.ClassifyStreamRequest(item=item)

        call = self.stub.ClassifyStream(messages(), metadata=self.headers)
        async for answer in call:
            index = int(answer.key.split("/")[1])
            if answer.HasField("response"):
                yield index, (confidences(answer.response), answer.response.timing.batch_size)
            else:
                yield (
                    index,
                    grpc.StatusCode(
                        next(c.value for c in grpc.StatusCode if c.value[0] == answer.status.code)
                    ).name,
                )


def differs(got, reference):
    """Tells whether an answer differs from the reference."""
    if isinstance(reference, str) or isinstance(got, str):
        return got != reference
    return got[0].keys() != reference[0].keys() or any(
        abs(got[0][name] - confidence) > 1e-5 for name, confidence in reference[0].items()
    )


def check_references(references):
    """Asserts that invalid images fail, and that answers differ: otherwise mix-ups go unnoticed."""
    answers = [tuple(got[0].values()) for got in references if not isinstance(got, str)]
    assert sum(isinstance(got, str) for got in references) == len(BAD) + 1
    assert {got for got in references if isinstance(got, str)} == {"INVALID_ARGUMENT"}
    assert len(set(answers)) >= 0.9 * len(answers)


@pytest.mark.parametrize("items", [400, pytest.param(12_000, marks=pytest.mark.slow)])
async def test_every_image_gets_the_same_answer_in_a_micro_batch_as_by_itself(
    installation, tmp_path, items
):
    running = installation(CATEGORIZER_MODELS__PACKAGED="false", CATEGORIZER_TEST__FAKE_MODEL="0,0")
    # Small: large micro-batches pay.
    source = write_tiny_model(tmp_path / "tiny", ["ant", "bee", "cat"])
    assert command("models", "add", "tiny", source, "--data", running.data).returncode == 0
    contents = pictures()
    random = np.random.default_rng(items)
    wrong, sizes = [], []
    address = f"unix:{running.data}/run/server.sock"
    async with grpc.aio.insecure_channel(address) as channel:
        caller = Caller(channel, running.shown_key())

        async def is_loaded():
            return not isinstance(await caller.one(contents[0]), str)

        await eventually(is_loaded)
        references = [await caller.one(content) for content in contents]
        check_references(references)

        def note(index, got):
            if differs(got, references[index]):
                wrong.append((index, got, references[index]))
            if not isinstance(got, str):
                sizes.append(got[1])

        async def streamed(number):
            indices = random.integers(0, len(contents), items // (2 * STREAMS)).tolist()
            lane = Config.BATCH if number % 2 else Config.INTERACTIVE
            count = 0
            async for index, got in caller.stream(lane, contents, indices):
                note(index, got)
                count += 1
            assert count == len(indices)

        async def one_by_one():
            for index in random.integers(0, len(contents), items // (2 * UNARY_CLIENTS)).tolist():
                note(index, await caller.one(contents[index]))

        await asyncio.gather(
            *map(streamed, range(STREAMS)), *(one_by_one() for _ in range(UNARY_CLIENTS))
        )
    print(
        f"\n{items} items, micro-batches of {np.mean(sizes):.1f} on average, {max(sizes)} at most"
    )
    assert wrong == []
    assert len(sizes) > 0.8 * items
    assert max(sizes) > 2
