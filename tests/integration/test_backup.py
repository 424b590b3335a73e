"""Backup and restore: all is there again, but for who was erased meanwhile."""

import asyncio
import json
import os
import shutil
import sys
from contextlib import asynccontextmanager

import asyncpg
import pytest
from image_categorizer import ImageNotFound, SubjectErased
from image_categorizer_server.db import dump
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.embedded import OWNER
from image_categorizer_server.services.backup import back_up, read_summary
from image_categorizer_server.settings.database import DatabaseSettings
from image_categorizer_server.settings.privacy import PrivacySettings

from tests.integration.conftest import running_server
from tests.support.database import ensure_tenants, open_for_all_tenants, owner_of
from tests.support.pictures import jpeg

ERASED, KEPT = "erased-subject", "kept-subject"
PICTURE, OTHER = jpeg(64, 48, 81), jpeg(64, 48, 82)


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"privacy": PrivacySettings(secret="s" * 32)})


@asynccontextmanager
async def new_database(stores, name, owner):
    """Makes a database. Yields its address for a role."""
    connection = await asyncpg.connect(owner_of(stores.postgres.url))
    await connection.execute(f"CREATE DATABASE {name} OWNER {owner}")
    try:
        yield stores.postgres.url.replace("/image_categorizer?", f"/{name}?")
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


async def run(settings, url, *words):
    """Runs a command for a database. Returns its status and what it says."""
    variables = {
        "DATABASE_URL": url,
        "CATEGORIZER_DATABASE__OWNER_URL": owner_of(url),
        "REDIS_URL": settings.redis_url,
        "MODEL_PATH": str(settings.model_path),
        "CATEGORIZER_STORAGE__PATH": str(settings.storage.path),
        "CATEGORIZER_PRIVACY__SECRET": "s" * 32,
    }
    command = [sys.executable, "-m", "image_categorizer_server", *map(str, words)]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **variables}, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


async def actions(url):
    """Returns the actions in the audit of the platform, oldest first."""
    connection = await asyncpg.connect(owner_of(url))
    rows = await connection.fetch(
        "SELECT action FROM audit_events WHERE tenant_id = '_platform' ORDER BY seq"
    )
    await connection.close()
    return [row["action"] for row in rows]


async def test_who_was_erased_after_the_backup_is_erased_again(settings, stores, tmp_path):
    folder = tmp_path / "backup"
    async with running_server(settings) as server:
        async with await server.client() as client:
            lost = await client.images.upload(PICTURE, subject_id=ERASED)
            kept = await client.classify_image(OTHER, store=True, subject_id=KEPT)
        status, said = await run(settings, settings.database_url, "backup", folder, "--objects")
        assert status == 0, said
        assert (await actions(settings.database_url))[-1] == "backup.created"
        async with await server.client(Role.ADMIN) as admin:
            await admin.subjects.erase(ERASED)
            assert await server.backend.erasures.sweep() == 1

    # Much is lost: the database, the models, and the objects of the one who stays.
    shutil.rmtree(settings.model_path)
    objects = [path for path in settings.storage.path.rglob("*") if path.is_file()]
    for path in objects:
        if path.read_bytes() == OTHER:
            path.unlink()
    async with new_database(stores, "restored", OWNER) as url:
        status, said = await run(settings, url, "restore", folder)
        assert status == 0, said
        assert "erased again now: 1." in said
        assert (await actions(url))[-1] == "backup.restored"
        contents = [p.read_bytes() for p in settings.storage.path.rglob("*") if p.is_file()]
        assert PICTURE not in contents
        assert OTHER in contents
        restored = settings.model_copy(update={"database_url": url})
        async with running_server(restored) as server, await server.client() as client:
            assert await client.images.content(kept.image_id)
            assert (await client.classify_image(OTHER)).category == kept.category
            with pytest.raises(ImageNotFound):
                await client.images.get(lost.image_id)
            with pytest.raises(SubjectErased):
                await client.images.upload(PICTURE, subject_id=ERASED)


async def test_an_owner_to_whom_row_level_security_applies_backs_up_all_tenants(stores, tmp_path):
    role, file = "image_categorizer", tmp_path / "dump"
    plain = DatabaseSettings()
    async with new_database(stores, "one_role", role) as url:
        await migrate(url, plain)
        async with open_for_all_tenants(url):
            await ensure_tenants("first", "second")
        grown = []
        assert await dump.dump(url, file, lambda done, total: grown.append((done, total))) == 18
        assert grown
    async with new_database(stores, "one_role_again", role) as url:
        await dump.restore(url, file)
        await migrate(url, plain)
        connection = await asyncpg.connect(owner_of(url))
        names = await connection.fetch("SELECT tenant_id FROM tenants")
        assert {row["tenant_id"] for row in names} >= {"default", "first", "second"}
        with pytest.raises(OperatorError, match="1 other sessions use the database"):
            await dump.clear(url, replace=True)
        await connection.close()
        with pytest.raises(OperatorError, match="The database has tables"):
            await dump.clear(url, replace=False)
        await dump.clear(url, replace=True)
        await dump.clear(url, replace=False)


async def test_a_backup_that_fails_leaves_nothing_and_says_why(settings, tmp_path):
    """The database is dumped, and then the objects cannot be listed."""
    owner = settings.database.model_copy(update={"owner_url": owner_of(settings.database_url)})
    settings = settings.model_copy(update={"cloud_provider": "aws", "database": owner})
    folder = tmp_path / "backup"
    with pytest.raises(OperatorError, match="set STORAGE_BUCKET"):
        await back_up(settings, folder, lambda step, done, total: None, objects=False)
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == []


def test_a_damaged_backup_is_refused(tmp_path):
    def shown(step, done, total):
        pass

    with pytest.raises(OperatorError, match="no complete backup"):
        read_summary(tmp_path, shown)
    (tmp_path / "database.dump").write_bytes(b"dump")
    summary = {
        "format": 1,
        "version": "0.1.0",
        "create_time": "2026-01-01T00:00:00Z",
        "postgres": 18,
        "files": {"database.dump": {"size_bytes": 4, "sha256": "0" * 64}},
        "object_count": 0,
        "object_bytes": 0,
        "has_objects": False,
    }
    (tmp_path / "backup.json").write_text(json.dumps(summary))
    with pytest.raises(OperatorError, match="is damaged: database.dump"):
        read_summary(tmp_path, shown)
    summary["files"] = {"../secret": {"size_bytes": 4, "sha256": "0" * 64}}
    (tmp_path / "backup.json").write_text(json.dumps(summary))
    with pytest.raises(OperatorError, match="outside its folder"):
        read_summary(tmp_path, shown)
    (tmp_path / "backup.json").write_text(json.dumps({**summary, "format": 2}))
    with pytest.raises(OperatorError, match="has the format 2"):
        read_summary(tmp_path, shown)
