"""Child processes of a server that answers calls on other threads."""

import subprocess
import sys

CHILDREN = 200
SERVE = """
import asyncio, sys
from asyncio.subprocess import PIPE

import image_categorizer_server
import grpc, uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

async def serve(address, children):
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(address)
    await server.start()
    caller = await asyncio.create_subprocess_exec(sys.executable, "-c", sys.argv[3], address)
    statuses = []
    for _ in range(children):
        child = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        statuses.append(await child.wait())
    caller.kill()
    await server.stop(0)
    print(sum(status != 0 for status in statuses))

uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
"""
CALL = """
import asyncio, sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

async def call():
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async def ask():
            while True:
                await stub.Check(health_pb2.HealthCheckRequest())
        await asyncio.gather(*(ask() for _ in range(16)))

asyncio.run(call())
"""


def test_no_child_of_a_busy_server_dies_before_it_is_another_program(tmp_path):
    """With gRPC's handlers of fork, one in twenty does, by SIGSEGV."""
    words = [f"unix:{tmp_path}/server.sock", str(CHILDREN), CALL]
    done = subprocess.run(
        [sys.executable, "-c", SERVE, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
