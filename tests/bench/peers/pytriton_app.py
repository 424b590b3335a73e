"""PyTriton: `python -m tests.bench.peers.pytriton_app`.

Triton collects the micro-batch. The callable decodes and predicts it, with one instance (a thread)
per core.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from tests.bench.peers import work

MODEL = "classify"
Infer = Callable[[list[Any]], list[dict[str, Any]]]


def instance(one: work.Work) -> Infer:
    """Returns the callable of one instance. Inputs are bytes (N, 1), outputs labels (N, 1)."""

    def infer(requests: list[Any]) -> list[dict[str, Any]]:
        contents = [content for request in requests for content in request["image"][:, 0]]
        labels = iter(one.predict([one.prepare(content) for content in contents]))
        return [
            {"label": np.array([[next(labels).encode()] for _ in request["image"]], dtype=object)}
            for request in requests
        ]

    return infer


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=work.port(),
        grpc_port=work.port() + 1,
        metrics_port=work.port() + 2,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=[instance(work.work()) for _ in range(work.workers())],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="label", dtype=bytes, shape=(1,))],
            config=ModelConfig(
                max_batch_size=work.max_batch_size(),
                batcher=DynamicBatcher(max_queue_delay_microseconds=work.WAIT_MS * 1000),
            ),
        )
        triton.serve()
