"""The raw limit: decode, preprocess and ONNX Runtime, with nothing around them.

A process of its own, so that its memory and its threads are its own too.  Each line on standard input,
`CLIENTS SECONDS`, is answered by one line of JSON on standard output:

    python -m image_categorizer_server.bench.raw MODEL_FOLDER ONNX_FILE MAX_BATCH_SIZE

With one client each picture goes through alone; with more, pictures are decoded in a pool while the
micro-batch before them is at the model, as the server does it.
"""

import itertools
import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from image_categorizer_server.backend import image_limits
from image_categorizer_server.bench.prepare import pictures
from image_categorizer_server.inference.decode import Decoder
from image_categorizer_server.inference.manifest import read_manifest
from image_categorizer_server.inference.preprocess import Input, Preprocessor
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.settings import Settings, cores


def alone(
    preprocessor: Preprocessor, runtime: OnnxRuntime, contents: Iterator[bytes], seconds: float
) -> dict[str, float]:
    """Returns rate and latency of one picture after the other."""
    times_ms = []
    end_s = time.perf_counter() + seconds
    while (start_s := time.perf_counter()) < end_s:
        runtime.predict([preprocessor.prepare(next(contents)).array])
        times_ms.append((time.perf_counter() - start_s) * 1000)
    return {"images_per_s": len(times_ms) / seconds, "p50_ms": statistics.median(times_ms)}


def together(
    preprocessor: Preprocessor,
    runtime: OnnxRuntime,
    contents: Iterator[bytes],
    seconds: float,
    size: int,
) -> dict[str, float]:
    """Returns the rate of full micro-batches, decoding overlapped with the model."""
    with ThreadPoolExecutor(cores()) as pool:

        def decoding() -> list[Future[Input]]:
            return [pool.submit(preprocessor.prepare, next(contents)) for _ in range(size)]

        under_way = decoding()
        count, start_s = 0, time.perf_counter()
        while time.perf_counter() - start_s < seconds:
            inputs = [future.result().array for future in under_way]
            under_way = decoding()
            runtime.predict(inputs)
            count += size
        elapsed_s = time.perf_counter() - start_s
    return {"images_per_s": count / elapsed_s, "mean_batch_size": float(size)}


def main() -> None:
    """Answers until standard input ends."""
    folder, file, max_batch_size = sys.argv[1:]
    spec = read_manifest(Path(folder)).input
    preprocessor = Preprocessor(Decoder(image_limits(Settings())), spec)
    runtime = OnnxRuntime(Path(file), Settings().inference.model_threads)
    contents = itertools.cycle(pictures())
    for line in sys.stdin:
        clients, seconds = line.split()
        figures = (
            alone(preprocessor, runtime, contents, float(seconds))
            if int(clients) == 1
            else together(preprocessor, runtime, contents, float(seconds), int(max_batch_size))
        )
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({**figures, "peak_memory_mb": peak_kib / 1024}), flush=True)


if __name__ == "__main__":
    main()
