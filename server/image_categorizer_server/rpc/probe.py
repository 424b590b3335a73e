"""Asks a server whether it is ready, from outside."""

import grpc
from image_categorizer.v1 import health_pb2, health_pb2_grpc

PROBE_S = 2.0


async def is_ready(address: str) -> bool:
    """Returns whether the server at `host:port` or `unix:/path` would answer a classification."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            stub = health_pb2_grpc.HealthServiceStub(channel)
            await stub.GetReadiness(health_pb2.GetReadinessRequest(), timeout=PROBE_S)
        except grpc.aio.AioRpcError:
            return False
    return True
