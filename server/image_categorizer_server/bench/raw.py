"""The raw limit: decoding, preprocessing and ONNX Runtime without a server around them.

Runs in a process of its own, so that its memory and threads can be measured. Each line
`CLIENTS SECONDS` on standard input is answered with a line of JSON on standard output:

    python -m image_categorizer_server.bench.raw MODEL_FOLDER ONNX_FILE

There are as many threads as the server has runners. Each takes one picture after the other through
decoding and the model, without queues and without handing work to another thread.
"""

import itertools
import json
import resource
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from image_categorizer_server.backend import image_limits
from image_categorizer_server.bench.prepare import pictures
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.settings import Settings


def main() -> None:
    """Answers until standard input ends."""
    folder, file = sys.argv[1:]
    settings = Settings()
    threads, runners = settings.inference.threads_and_runners()
    preprocessor = Preprocessor(Decoder(image_limits(settings)), read_manifest(Path(folder)).input)
    runtime = OnnxRuntime(Path(file), threads, runners)
    contents = itertools.cycle(pictures())

    def runner(end_s: float) -> list[float]:
        """Classifies pictures until `end_s`. Returns the milliseconds that each took."""
        times_ms = []
        while (start_s := time.perf_counter()) < end_s:
            runtime.predict([preprocessor.prepare(next(contents)).array])
            times_ms.append((time.perf_counter() - start_s) * 1000)
        return times_ms

    for line in sys.stdin:
        clients, seconds = line.split()
        with ThreadPoolExecutor(runners) as pool:
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            ends = [start_s + float(seconds)] * min(int(clients), runners)
            times_ms = [ms for runner_times in pool.map(runner, ends) for ms in runner_times]
            elapsed_s = time.perf_counter() - start_s
            cpu_s = time.process_time() - start_cpu_s
        percentiles = statistics.quantiles(times_ms, n=100, method="inclusive")
        figures = {
            "images_per_s": len(times_ms) / elapsed_s,
            "p50_ms": percentiles[49],
            "p99_ms": percentiles[98],
            "cpu_ms_per_image": cpu_s * 1000 / len(times_ms),
            "mean_batch_size": 1.0,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
