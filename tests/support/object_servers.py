"""Local servers that speak the protocols of cloud object stores."""

import asyncio
import base64
import hashlib
import hmac
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.support.polling import eventually
from tests.support.up import free_port

BUCKET = "lab"
# The part of a signature that moto reads: the access key and the scope.
UNSIGNED = (
    "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
AZURE_ACCOUNT = "devstoreaccount1"
# Azurite's public default: https://github.com/Azure/Azurite#default-storage-account
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
AZURITE = Path(__file__).resolve().parents[2] / ".build" / "azurite"
START_S = 40


@asynccontextmanager
async def running(command: list[str], url: str) -> AsyncIterator[str]:
    """Runs a server during the block. Yields its address once it answers."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    try:
        async with httpx.AsyncClient() as client:

            async def answers() -> bool:
                assert process.returncode is None, f"{command[0]} ended"
                with suppress(httpx.TransportError):
                    await client.get(url)
                    return True
                return False

            await eventually(answers, START_S, 0.1)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def running_s3() -> AsyncIterator[str]:
    """Runs moto's S3 server, which also speaks Google's XML protocol."""
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
    """Runs Microsoft's Azurite. Skips the test if it is not installed."""
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
    """Creates a container, which obstore cannot."""
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
    """Sends a signed request, as anyone who has it can."""
    # moto drops a body with the content type of a form, the default of some clients.
    headers = {"Content-Type": "image/jpeg"} if body else {}
    async with httpx.AsyncClient() as client:
        answer = await client.request(
            request.method, request.url, content=body, headers={**headers, **request.headers}
        )
        return answer.status_code, answer.content
