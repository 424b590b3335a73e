"""A caller that asks all the time while others send what is wrong."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from image_categorizer.v1 import health_pb2, health_pb2_grpc

from tests.support.polling import pause

PAUSE_S = 0.01


@contextmanager
def healthy_caller(port: int) -> Iterator[list[str]]:
    """Calls by gRPC during the block, each with another deadline. Yields the outcomes."""
    outcomes: list[str] = []
    over = threading.Event()

    def ask() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthServiceStub(channel)
            while not over.is_set():
                try:
                    stub.GetLiveness(
                        health_pb2.GetLivenessRequest(), timeout=20 + len(outcomes) / 1000
                    )
                except grpc.RpcError as error:
                    outcomes.append(f"{error.code().name}: {error.details()}")
                else:
                    outcomes.append("OK")
                pause(PAUSE_S)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield outcomes
    finally:
        over.set()
        asking.join()
