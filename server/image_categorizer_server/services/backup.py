"""Backups of an installation, and the way back.

    <folder>/database.dump     PostgreSQL's own format
             models/           the model repository
             objects.jsonl     key, size and time of each stored object
             objects/          the objects, if they were asked for
             backup.json       what the others are, written last

The database is dumped before the objects are listed: an object is stored before a row refers to it.
After a restore, erasures that the database has forgotten are done again: the storage knows them.
"""

import asyncio
import hashlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from image_categorizer_server import clock
from image_categorizer_server.db import audit, dump
from image_categorizer_server.db.database import transaction
from image_categorizer_server.domain.audit import PLATFORM_CHAIN, AuditAction
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.errors import NotFound, OperatorError
from image_categorizer_server.services.crashing_images import CRASHING_IMAGES_KEY
from image_categorizer_server.services.data_key import open_sealer
from image_categorizer_server.services.erasure import Erasures
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.expiring_set import RedisExpiringSet
from image_categorizer_server.stores.object_store import Storage, open_storage
from image_categorizer_server.stores.redis import RedisCache, open_redis
from image_categorizer_server.version import VERSION

FORMAT = 1
DUMP, MODELS, LIST, OBJECTS = "database.dump", "models", "objects.jsonl", "objects"
SUMMARY = "backup.json"
HASHED_AT_ONCE_BYTES = 2**20
Show = Callable[[str, int, int], None]
"""Receives the name of a step, the amount done and the total."""


class File(BaseModel):
    """A file of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    sha256: str


class Summary(BaseModel):
    """What a backup holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    version: str
    """Of the program that made it."""
    create_time: datetime
    postgres: int
    """Major version of the database."""
    files: dict[str, File]
    """By path."""
    object_count: int
    object_bytes: int
    has_objects: bool
    """Whether it holds the objects themselves."""


class Restored(BaseModel):
    """What a restore has done."""

    model_config = ConfigDict(frozen=True)

    summary: Summary
    erasures: int
    """Subjects that were erased after the backup, and erased again now."""
    missing: list[str]
    """Keys of objects that the backup lists and the storage does not have."""


async def back_up(settings: Settings, folder: Path, show: Show, *, objects: bool) -> Summary:
    """Makes a backup; returns what it holds.  The folder appears once it is complete.

    Args:
        settings: of the installation.
        folder: does not exist.
        show: is told how far it is.
        objects: whether the objects are copied, too.

    Raises:
        OperatorError: the folder exists, the database cannot be dumped or the storage not be read.
        DependencyDown: the storage or the database does not answer.
        OSError: the folder cannot be written to.
    """
    with _appearing(folder) as incoming:
        summary = await _write(settings, incoming, show, objects=objects)
    with all_tenants():
        async with transaction() as connection:
            await audit.record_event(
                connection,
                PLATFORM_CHAIN,
                AuditAction.BACKUP_CREATED,
                "",
                summary.create_time,
                object_count=summary.object_count,
                has_objects=objects,
            )
    return summary


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Yields a folder that has the name `folder` once the block has ended without an error."""
    if folder.exists():
        raise OperatorError(f"{folder} exists: name a folder that does not.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    incoming = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield incoming
        incoming.rename(folder)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


async def _write(settings: Settings, folder: Path, show: Show, *, objects: bool) -> Summary:
    now = clock.now()
    url = settings.database.owner_url or settings.database_url
    file = folder / DUMP
    postgres = await dump.dump(url, file, lambda done, total: show("database", done, total))
    await asyncio.to_thread(_copy_models, settings.model_path, folder / MODELS)
    count, size_bytes = 0, 0
    async with open_storage(settings) as storage:
        with (folder / LIST).open("w") as listed:
            async for found in storage.list():
                fields = found.key, found.size_bytes, found.modify_time.isoformat()
                names = "key", "size_bytes", "modify_time"
                listed.write(json.dumps(dict(zip(names, fields, strict=True))) + "\n")
                count, size_bytes = count + 1, size_bytes + found.size_bytes
        if objects:
            await _copy_objects(storage, folder, count, show)
    summary = Summary(
        format=FORMAT,
        version=VERSION,
        create_time=now,
        postgres=postgres,
        files=await asyncio.to_thread(_files, folder),
        object_count=count,
        object_bytes=size_bytes,
        has_objects=objects,
    )
    (folder / SUMMARY).write_text(summary.model_dump_json(indent=1) + "\n")
    return summary


async def _copy_objects(storage: Storage, folder: Path, total: int, show: Show) -> None:
    """Copies the listed objects as they are stored; those that are gone meanwhile are left out."""
    for done, key in enumerate(_keys(folder), 1):
        target = _inside(folder / OBJECTS, key)
        try:
            content = await storage.get(key)
        except NotFound:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        show("objects", done, total)


def read_summary(folder: Path, show: Show) -> Summary:
    """Returns what a backup holds, after a look at every byte of it; blocks.

    Raises:
        OperatorError: it is none, of another release, or damaged.
    """
    try:
        summary = Summary.model_validate_json((folder / SUMMARY).read_text())
    except (OSError, ValidationError, UnicodeDecodeError):
        raise OperatorError(f"{folder} is no complete backup: {SUMMARY} is not valid.") from None
    if summary.format != FORMAT:
        raise OperatorError(
            f"{folder} has the format {summary.format}; this release reads {FORMAT}."
        )
    for done, (name, file) in enumerate(summary.files.items(), 1):
        path = _inside(folder, name)
        if not path.is_file() or _described(path) != file:
            raise OperatorError(f"{folder} is damaged: {name} is not what was written.")
        show("check", done, len(summary.files))
    return summary


async def restore_database(settings: Settings, folder: Path, *, replace: bool) -> None:
    """Reads the dump of a backup into the database.  Its schema is that of the backup.

    Raises:
        OperatorError: the database is in use, or has tables and `replace` is false.
    """
    url = settings.database.owner_url or settings.database_url
    await dump.clear(url, replace=replace)
    await dump.restore(url, folder / DUMP)


async def restore_files(settings: Settings, folder: Path, show: Show) -> None:
    """Puts back models and objects that are missing.  What is there stays as it is.

    Raises:
        DependencyDown: the storage does not answer.
        OSError: the model repository cannot be written to.
    """
    await asyncio.to_thread(_put_models_back, folder / MODELS, settings.model_path)
    if not (folder / OBJECTS).is_dir():
        return
    async with open_storage(settings) as storage:
        for done, key in enumerate(keys := list(_keys(folder)), 1):
            source = _inside(folder / OBJECTS, key)
            if source.is_file():
                await storage.create(key, source.read_bytes())
            show("objects", done, len(keys))
        await storage.flush()


async def finish_restore(settings: Settings, folder: Path, summary: Summary) -> Restored:
    """Erases again what was erased after the backup, and compares the objects with its list.

    Needs `open_database`, and a schema of this release.

    Raises:
        DependencyDown: the database, the storage or Redis does not answer.
    """
    with all_tenants():
        async with _erasures(settings) as (erasures, storage):
            count = await erasures.replay()
            there = {found.key async for found in storage.list()}
        missing = [key for key in _keys(folder) if key not in there]
        async with transaction() as connection:
            await audit.record_event(
                connection,
                PLATFORM_CHAIN,
                AuditAction.BACKUP_RESTORED,
                "",
                clock.now(),
                backup_time=summary.create_time.isoformat(),
                erasure_count=count,
                missing_count=len(missing),
            )
    return Restored(summary=summary, erasures=count, missing=missing)


@asynccontextmanager
async def _erasures(settings: Settings) -> AsyncIterator[tuple[Erasures, Storage]]:
    async with (
        open_redis(settings.redis_url, settings.redis) as redis,
        open_storage(settings, open_sealer(settings.encryption)) as storage,
    ):
        cache = RedisCache(redis, settings.redis.timeout_s)
        crashing = RedisExpiringSet(redis, CRASHING_IMAGES_KEY, settings.redis.timeout_s)
        yield Erasures.of(storage, cache, crashing, settings), storage


def _keys(folder: Path) -> list[str]:
    """Returns the keys of the objects in a backup's list."""
    with (folder / LIST).open() as lines:
        return [str(json.loads(line)["key"]) for line in lines]


def _inside(folder: Path, name: str) -> Path:
    """Returns the path of a name in a folder.

    Raises:
        OperatorError: the name leads out of it.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise OperatorError("The backup names a file outside its folder.")
    return folder / path


def _copy_models(repository: Path, target: Path) -> None:
    if repository.is_dir():
        shutil.copytree(repository, target, ignore=shutil.ignore_patterns(".*"))
    else:
        target.mkdir()


def _put_models_back(source: Path, repository: Path) -> None:
    """Copies each file that is missing."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        target = repository / file.relative_to(source)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)


def _files(folder: Path) -> dict[str, File]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _described(path) for path in paths}


def _described(path: Path) -> File:
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while some := file.read(HASHED_AT_ONCE_BYTES):
            digest.update(some)
            size_bytes += len(some)
    return File(size_bytes=size_bytes, sha256=digest.hexdigest())
