"""Object stores that speak the clouds' protocols, on this machine."""

import asyncio
import base64
import hashlib
import hmac
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.support.polling import eventually

BUCKET = "lab"
# What moto reads of a signature: who signs, and for what.
UNSIGNED = (
    "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
AZURE_ACCOUNT = "devstoreaccount1"
# Azurite's, known to all: https://github.com/Azure/Azurite#default-storage-account
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
AZURITE = Path(__file__).resolve().parents[2] / ".build" / "azurite"
START_S = 40


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(command: list[str], url: str) -> AsyncIterator[str]:
    """Runs a server until the block ends; yields its address once it answers."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    try:
        async with httpx.AsyncClient() as client:

            async def answers() -> bool:
                assert process.returncode is None, f"{command[0]} ended"
                try:
                    await client.get(url)
                except httpx.TransportError:
                    return False
                return True

            await eventually(answers, START_S, 0.1)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def running_s3() -> AsyncIterator[str]:
    """moto's S3, which serves Google's XML protocol as well."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    async with running(command, f"http://127.0.0.1:{port}") as url:
        yield url


async def empty_s3_bucket(url: str) -> None:
    async with httpx.AsyncClient(headers={"Authorization": UNSIGNED}) as client:
        await client.post(f"{url}/moto-api/reset")
        (await client.put(f"{url}/{BUCKET}")).raise_for_status()


@asynccontextmanager
async def running_azure(folder: Path) -> AsyncIterator[str]:
    """Azurite, Microsoft's own; skips where it is not installed."""
    program = shutil.which("azurite-blob", path=str(AZURITE / "node_modules" / ".bin"))
    program = program or shutil.which("azurite-blob")
    if not program:
        pytest.skip("azurite is not installed: npm install --prefix .build/azurite azurite")
    port = free_port()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location"]
    command += [str(folder), "--silent", "--skipApiVersionCheck", "--loose"]
    async with running(command, f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}") as url:
        yield url


async def make_azure_container(url: str, name: str) -> None:
    """Makes a container: obstore does not."""
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    blank = "\n" * 12
    signed = (
        f"PUT{blank}x-ms-date:{date}\nx-ms-version:2021-12-02\n"
        f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{name}\nrestype:container"
    )
    digest = hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256)
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-12-02",
        "Authorization": f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}",
    }
    async with httpx.AsyncClient(headers=headers) as client:
        (await client.put(f"{url}/{name}?restype=container")).raise_for_status()


async def send(request, body: bytes | None = None) -> tuple[int, bytes]:
    """Sends a signed request as anybody would."""
    # moto keeps nothing of a body of the type that a form has, which some clients send.
    headers = {"Content-Type": "image/jpeg"} if body else {}
    async with httpx.AsyncClient() as client:
        answer = await client.request(
            request.method, request.url, content=body, headers={**headers, **request.headers}
        )
        return answer.status_code, answer.content
