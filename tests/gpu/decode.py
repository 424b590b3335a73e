"""JPEGs of 500 x 375 a second: decoded and preprocessed by CPU processes, and by the card."""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from image_categorizer_server.bench.prepare import pictures
from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
from image_categorizer_server.inference.images.preprocess import InputSpec, Preprocessor

LIMITS = ImageLimits(10_000_000, 50_000_000, 16_384, 100, 100)
SPEC = InputSpec(
    width_px=224,
    height_px=224,
    resize="shortest_edge",
    resize_px=256,
    resample="bicubic",
    scale=(1 / 255,) * 3,
    bias=(0, 0, 0),
)
CARD_SIZE = 64


def measure(words: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> None:
    """Reports a row for each number of processes, and one of the card's decoder."""
    per_process = 0.0
    for count in words.processes:
        rate = by_processes(count, words.seconds)
        report({"decoder": f"{count} processes", "images_per_s": round(rate)})
        per_process = per_process or rate / count
    card = by_card(words.seconds) if words.device == "cuda" else None
    if card is None:
        report({"decoder": "card", "images_per_s": None})
    else:
        report(
            {
                "decoder": "card, torchvision",
                "images_per_s": round(card),
                "is_worth_processes": round(card / per_process, 1),
            }
        )


def by_processes(count: int, seconds: float) -> float:
    """Returns what all processes decode in a second."""
    command = [sys.executable, "-m", "tests.gpu.decode", str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
    answers = [process.communicate(timeout=60 + 2 * seconds)[0] for process in running]
    return float(sum(json.loads(answer) for answer in answers))


def by_card(seconds: float) -> float | None:
    """Returns what nvJPEG decodes in a second, without resizing; None without torchvision."""
    try:
        import torch
        from torchvision.io import decode_jpeg
    except ImportError:
        return None
    given = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in pictures()]
    decode_jpeg(given[:CARD_SIZE], device="cuda")
    torch.cuda.synchronize()
    count, start_s = 0, time.perf_counter()
    while time.perf_counter() < start_s + seconds:
        decode_jpeg(given[:CARD_SIZE], device="cuda")
        torch.cuda.synchronize()
        count += CARD_SIZE
    return count / (time.perf_counter() - start_s)


def main() -> None:
    """Prints how many pictures this process decodes and preprocesses in a second."""
    seconds = float(sys.argv[1])
    preprocessor = Preprocessor(Decoder(LIMITS), SPEC)
    contents = itertools.cycle(pictures())
    preprocessor.prepare(next(contents))
    count, start_s = 0, time.perf_counter()
    while time.perf_counter() < start_s + seconds:
        preprocessor.prepare(next(contents))
        count += 1
    print(json.dumps(count / (time.perf_counter() - start_s)))


if __name__ == "__main__":
    main()
