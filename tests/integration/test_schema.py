"""A database that was never migrated, or migrated by a newer program."""

import asyncio
import os
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import grpc
import pytest
from image_categorizer._statuses import from_rpc_error
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc
from image_categorizer_server.db.database import create_database
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.settings.database import DatabaseSettings

from tests.integration.conftest import running_server
from tests.support.database import connect_as_owner, owner_of

NAME = "other"
SENTENCE = "run `image-categorizer migrate`"


@pytest.fixture
async def unmigrated(stores) -> str:
    """The address of a database without tables."""
    async with _connection(stores.postgres.url) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
    await create_database(owner_of(stores.postgres.url), NAME, 10)
    return str(urlunsplit(urlsplit(stores.postgres.url)._replace(path=f"/{NAME}")))


class _connection:  # noqa: N801 - a block
    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self):
        self._connection = await connect_as_owner(self._url)
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def test_a_server_on_a_database_without_tables_is_not_ready_and_says_what_to_do(
    settings, unmigrated
):
    async with running_server(settings.model_copy(update={"database_url": unmigrated})) as running:
        with pytest.raises(DependencyDown, match=SENTENCE):
            await running.backend.check_ready()
        async with grpc.aio.insecure_channel(running.address) as channel:
            stub = batch_pb2_grpc.BatchServiceStub(channel)
            headers = (("authorization", "Bearer ic_" + "a" * 43),)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListBatches(batch_pb2.ListBatchesRequest(), metadata=headers)
        assert from_rpc_error(caught.value).reason in {"DEPENDENCY_DOWN", "CREDENTIALS_INVALID"}
        await migrate(unmigrated, DatabaseSettings(owner_url=owner_of(unmigrated)))
        await running.backend.check_ready()


async def test_a_newer_database_stops_new_servers_and_not_those_that_serve(settings, unmigrated):
    changed = settings.model_copy(update={"database_url": unmigrated})
    await migrate(unmigrated, DatabaseSettings(owner_url=owner_of(unmigrated)))
    async with running_server(changed) as running:
        await running.backend.check_ready()
        async with _connection(unmigrated) as connection:
            await connection.execute(
                "INSERT INTO tortoise_migrations (app, name, applied_at)"
                " VALUES ('models', '9999_future', now())"
            )
        await running.backend.check_ready()
    async with running_server(changed) as running:
        with pytest.raises(DependencyDown, match="newer version"):
            await running.backend.check_ready()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [("image_categorizer_server", "create-admin"), ("image_categorizer_workers",)],
)
async def test_programs_on_a_database_without_tables_end_with_a_sentence(
    stores, unmigrated, tmp_path, command
):
    environment = {
        **os.environ,
        "DATABASE_URL": unmigrated,
        "REDIS_URL": stores.redis.url,
        "CATEGORIZER_STORAGE__PATH": str(tmp_path),
        "CATEGORIZER_CLIENT__BASE_URL": "127.0.0.1:1",
        "CATEGORIZER_CLIENT__API_KEY": "ic_none",
    }
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert SENTENCE in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr + ended.stdout
