"""Erasure of a subject: nothing of it is left anywhere, whatever dies, and nothing else changes."""

import asyncio
import hashlib
import io
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from image_categorizer import ErasureNotFound, InvalidRequest, RoleInsufficient, SubjectErased
from image_categorizer_server import clock
from image_categorizer_server.access.signing import SigningKey
from image_categorizer_server.access.subject import Subjects
from image_categorizer_server.backend import image_limits
from image_categorizer_server.db import delivery
from image_categorizer_server.db import image as image_rows
from image_categorizer_server.db import upload as uploads
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.classification import Classification
from image_categorizer_server.domain.image import ImageFilter, NewImage
from image_categorizer_server.errors import DependencyDown, ErasureRunning
from image_categorizer_server.errors import SubjectErased as Refused
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.picture import PictureMaker
from image_categorizer_server.services.crashing_images import CRASHING_IMAGES_KEY
from image_categorizer_server.services.erasure import verify_certificate
from image_categorizer_server.services.image import ImagePolicy, Images
from image_categorizer_server.settings.audit import AuditSettings
from image_categorizer_server.settings.database import CacheSettings
from image_categorizer_server.settings.privacy import PrivacySettings
from image_categorizer_server.stores.object_store import Storage
from image_categorizer_server.tasks import TaskOwner
from obstore.store import LocalStore
from redis.asyncio import Redis

from tests.integration.conftest import running_server
from tests.support.batch_tools import MODEL, TIMING, all_of, do_all
from tests.support.database import connect_as_owner
from tests.support.pictures import jpeg

PICTURE, BATCH_PICTURE, OTHERS = (jpeg(64, 48, seed) for seed in (71, 72, 73))
SUBJECT = "canary-subject"
CANARY = "canary"
SUBJECTS = Subjects(b"s" * 32)
KEY = SigningKey.generate()
WITHIN_S = 60.0
POINTS = ("recorded", "batches", "messages", "images", "objects", "cache", "data_keys")
pytestmark = pytest.mark.usefixtures("every_tenant")


@dataclass
class Places:
    """Where the server stores something."""

    owner: asyncpg.Connection
    redis: Redis
    objects: Path

    async def tables(self) -> dict[str, bytes]:
        """Returns all rows of all tables as text."""
        rows = await self.owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = sorted(row["tablename"] for row in rows)
        return {f"table {name}": "\n".join(await self.rows(name)).encode() for name in names}

    async def rows(self, table: str) -> list[str]:
        """Returns the rows of a table as text."""
        return [
            row[0] for row in await self.owner.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")
        ]

    async def all(self) -> dict[str, bytes]:
        """Returns all that is stored, by place."""
        found = await self.tables()
        async for key in self.redis.scan_iter():
            found[f"redis {key!r}"] = key + (await self.redis.dump(key) or b"")
        for path in self.objects.rglob("*"):
            if path.is_file():
                found[f"object {path.relative_to(self.objects)}"] = path.read_bytes()
        return found


class HeldStorage(Storage):
    """The storage of the server, which stores nothing before it is told to."""

    def __init__(self, settings):
        super().__init__(LocalStore(settings.storage.path), settings.storage)
        self.is_putting = asyncio.Event()
        self.may_put = asyncio.Event()

    async def put(self, key, content, content_type=""):
        self.is_putting.set()
        await self.may_put.wait()
        await super().put(key, content, content_type)


@pytest.fixture
def settings(settings):
    changes = {
        "privacy": PrivacySettings(secret="s" * 32),
        "audit": AuditSettings(signing_key=KEY.pem()),
        "cache": CacheSettings(ttl_s=600),
    }
    return settings.model_copy(update=changes)


@pytest.fixture
def erasures(server):
    return server.backend.erasures


@pytest.fixture
async def places(settings):
    owner = await connect_as_owner(settings.database_url)
    async with Redis.from_url(settings.redis_url) as redis:
        await redis.flushall()
        yield Places(owner, redis, settings.storage.path)
    await owner.close()


@pytest.fixture
async def admin(server, places):
    async with await server.client(Role.ADMIN) as client:
        yield client


async def fill(server, client, name: str, words: str, pictures: tuple[bytes, bytes]) -> None:
    """Stores something about a subject everywhere, with words of its own."""
    await client.images.upload(
        pictures[0], filename=f"{words}.jpg", tags=[f"{words}-tag"], subject_id=name
    )
    kept = await client.classify_image(pictures[0], store=True, subject_id=name)
    await client.images.content(kept.image_id, width=32)
    await client.images.correct(kept.image_id, "cat")
    for _ in range(2):  # the second answer is that of the cache
        await client.classify_image(pictures[0])
    for number in range(2):  # one batch is done, one waits
        items = [(f"{words}-item.jpg", pictures[1]), (f"{words}-bad.jpg", b"no image" * 9)]
        await client.batches.submit(items, request_id=f"{words}-{number}", subject_id=name)
        if not number:
            await do_all(bad=frozenset({1}))
    key = server.backend.images.subject_key_of("default", name)
    found = Classification([], MODEL, TIMING)
    for message in ("sent", "waiting"):
        await server.backend.webhooks.notify_classified(
            "default", f"https://example.com/{words}", f"{words}-{message}", found, key
        )
        if message == "sent":
            await delivery.fan_out(clock.now(), 100)


def hits(found: dict[str, bytes], canaries: list[bytes]) -> list[str]:
    return [
        place
        for place, content in found.items()
        if any(canary in content or canary in place.encode() for canary in canaries)
    ]


def canaries_of(words: str, pictures: tuple[bytes, bytes]) -> list[bytes]:
    digests = [hashlib.sha256(picture).hexdigest().encode() for picture in pictures]
    return [words.encode(), *digests, *(picture[-90:-20] for picture in pictures)]


async def test_nothing_of_an_erased_subject_is_left_anywhere_and_all_of_others_is(
    server, client, admin, places, capfd
):
    await fill(server, client, "bob", "other", (OTHERS, OTHERS))
    others = canaries_of("other", (OTHERS, OTHERS))
    images = await places.rows("images")
    before = {
        place: content
        for place, content in (await places.all()).items()
        if place.startswith("object")
    }
    await fill(server, client, SUBJECT, CANARY, (PICTURE, BATCH_PICTURE))
    canaries = canaries_of(CANARY, (PICTURE, BATCH_PICTURE))
    # Processes refuse some of the images: one that was stored, one of a batch, and another's.
    crashing = [hashlib.sha256(one).hexdigest() for one in (PICTURE, BATCH_PICTURE, OTHERS)]
    await places.redis.zadd(CRASHING_IMAGES_KEY, dict.fromkeys(crashing, 4e9))
    assert len(hits(await places.all(), canaries)) >= 8

    start = clock.now()
    erasure = await admin.subjects.erase(SUBJECT)
    assert (erasure.state, erasure.certificate) == ("RUNNING", "")
    assert await server.backend.erasures.sweep() == 1
    assert (clock.now() - start).total_seconds() < WITHIN_S

    left = await places.all()
    assert hits(left, canaries) == []
    assert await places.redis.zrange(CRASHING_IMAGES_KEY, 0, -1) == [crashing[2].encode()]
    assert CANARY not in "".join(capfd.readouterr())
    # The others' objects and images are byte-equal, and nothing else of theirs is gone.
    assert {place: left.get(place) for place in before} == before
    assert await places.rows("images") == images
    assert {place.split()[1] for place in hits(left, others) if place.startswith("table")} >= {
        "batches",
        "batch_items",
        "images",
        "webhook_deliveries",
    }
    done = await admin.subjects.erasure(erasure.erasure_id)
    assert done.is_done
    assert done.removed == {
        "batches": 2,
        "batch_items": 4,
        "batch_results": 2,
        "batch_chunks": done.removed["batch_chunks"],
        "webhook_messages": 2,
        "webhook_deliveries": 1,
        "images": 1,
        "image_results": 1,
        "image_embeddings": 1,
        "image_renditions": 1,
        "image_terms": 9,
        "feedback": 1,
        "category_examples": 0,
        "review_queue": 0,  # a person has judged it
        "crashing_images": 2,
        "objects": done.removed["objects"],
        "object_bytes": done.removed["object_bytes"],
        "cached_answers": done.removed["cached_answers"],
        "data_keys": 0,
    }
    assert done.removed["objects"] >= 2
    assert done.removed["cached_answers"] >= 1
    assert [found async for found in admin.subjects.erasures()] == [done]
    stated = verify_certificate(done.certificate, KEY.public_key)
    assert (stated["subject_key"], stated["removed"]) == (done.subject_key, done.removed)
    forged = done.certificate.replace('"images":1', '"images":0')
    for text in (forged, "{}", "[]", "no JSON"):
        with pytest.raises(ValueError, match="sign|certificate"):
            verify_certificate(text, KEY.public_key)


async def test_an_erased_subject_is_not_stored_before_it_is_allowed(client, admin, erasures):
    await client.images.upload(PICTURE, subject_id=SUBJECT)
    first = await admin.subjects.erase(SUBJECT)
    assert (await admin.subjects.erase(SUBJECT)).erasure_id == first.erasure_id
    with pytest.raises(SubjectErased):
        await client.images.upload(OTHERS, subject_id=SUBJECT)
    with pytest.raises(SubjectErased):
        await client.classify_image(PICTURE, store=True, subject_id=f"key:{first.subject_key}")
    with pytest.raises(SubjectErased):
        await client.batches.submit([("a.jpg", PICTURE)], subject_id=SUBJECT)
    await client.images.upload(PICTURE, subject_id="bob")
    with pytest.raises(ErasureRunning):
        await erasures.allow("default", SUBJECT)
    await erasures.sweep()
    allowed = await admin.subjects.allow(SUBJECT)
    assert allowed.allow_time is not None
    await client.images.upload(PICTURE, subject_id=SUBJECT)
    with pytest.raises(ErasureNotFound):
        await admin.subjects.allow(SUBJECT)
    second = await admin.subjects.erase(SUBJECT)
    assert second.erasure_id != first.erasure_id
    await erasures.sweep()
    assert [image async for image in client.images.list(subject_id=SUBJECT)] == []
    with pytest.raises(ErasureNotFound):
        await admin.subjects.erasure("e-unknown")
    with pytest.raises(InvalidRequest, match="subject_id"):
        await admin.subjects.erase("a\nb")


@pytest.mark.usefixtures("restored_clock")
async def test_a_subject_is_allowed_once_no_process_remembers_its_erased_data_key(
    admin, erasures, places
):
    await places.owner.execute(
        "INSERT INTO data_keys VALUES ($1, 'default', $2, 'k', '', now())",
        "d" * 32,
        SUBJECTS.key_of("default", SUBJECT),
    )
    erasure = await admin.subjects.erase(SUBJECT)
    await erasures.sweep()
    assert (await admin.subjects.erasure(erasure.erasure_id)).removed["data_keys"] == 1
    assert await places.rows("data_keys") == []
    with pytest.raises(ErasureRunning, match="60 s"):
        await erasures.allow("default", SUBJECT)
    clock.shift(61)
    assert (await erasures.allow("default", SUBJECT)).allow_time is not None


async def admit_all(tenant_id, size_bytes):
    """Admits every image."""


async def test_late_writers_leave_nothing(server, client, admin, erasures, settings):
    """The subject goes while an image is stored, a batch is uploaded, and another one runs."""
    await client.batches.submit([("a.jpg", PICTURE)], subject_id=SUBJECT)
    key = server.backend.images.subject_key_of("default", SUBJECT)
    await uploads.begin_upload("default", "b-late", 60, key)
    store = HeldStorage(settings)
    of_server = server.backend.images
    tasks = TaskOwner()
    late = Images(
        store,
        PictureMaker(Decoder(image_limits(settings))).picture_of,
        SUBJECTS,
        of_server.fetch,
        ImagePolicy(admit_all, lambda *_: None, lambda _: ""),
        tasks,
    )
    storing = asyncio.create_task(late.store("default", NewImage(OTHERS, subject_id=SUBJECT)))
    await store.is_putting.wait()
    erasure = await admin.subjects.erase(SUBJECT)
    assert not await uploads.extend_upload("b-late", 60)
    assert await erasures.sweep() == 0
    assert await do_all() == 0
    await uploads.give_up_upload("default", "b-late")
    assert await erasures.sweep() == 0
    store.may_put.set()
    await storing
    assert await erasures.sweep() == 1
    assert (await admin.subjects.erasure(erasure.erasure_id)).is_done
    folder = settings.storage.path / "default" / "subjects"
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert [image async for image in client.images.list()] == []
    new = NewImage(OTHERS, subject_id=SUBJECT)
    with pytest.raises(Refused):
        await late.store("default", new)
    await tasks.close()


@pytest.mark.parametrize(
    "point",
    [
        "batches",
        "objects",
        *(
            pytest.param(point, marks=pytest.mark.slow)
            for point in (*POINTS, "certificate")
            if point not in ("batches", "objects")
        ),
    ],
)
async def test_an_erasure_whose_process_is_killed_ends_after_a_restart(
    server, client, admin, places, settings, point
):
    await fill(server, client, SUBJECT, CANARY, (PICTURE, BATCH_PICTURE))
    erasure = await admin.subjects.erase(SUBJECT)
    urls = settings.database_url, settings.redis_url, str(settings.storage.path)
    command = sys.executable, "-m", "tests.support.eraser", *urls
    killed = await asyncio.create_subprocess_exec(*command, f"erasure.{point}:1")
    assert await killed.wait() == -9
    assert not (await admin.subjects.erasure(erasure.erasure_id)).is_done
    assert await server.backend.erasures.sweep() == 1
    left = await places.all()
    assert hits(left, canaries_of(CANARY, (PICTURE, BATCH_PICTURE))) == []
    done = await admin.subjects.erasure(erasure.erasure_id)
    assert (done.removed["batches"], done.removed["images"]) == (2, 1)


async def test_erasures_that_a_restored_database_has_forgotten_are_done_again(
    client, admin, erasures, places
):
    owner = places.owner
    await client.images.upload(PICTURE, subject_id=SUBJECT)
    await client.images.upload(PICTURE, subject_id="ann")
    await client.images.upload(PICTURE, subject_id="bob")
    backup = {
        table: await owner.fetch(f"SELECT * FROM {table}") for table in ("images", "image_results")
    }
    for name in (SUBJECT, "ann"):
        await admin.subjects.erase(name)
    await erasures.sweep()
    await admin.subjects.allow("ann")
    assert await erasures.replay() == 0
    await owner.execute("DELETE FROM erasures")
    for table, rows in backup.items():
        await owner.execute(f"DELETE FROM {table}")
        for row in rows:
            marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
            names = ", ".join(row.keys())
            await owner.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", *row.values())
    assert len([image async for image in client.images.list()]) == 3
    assert await erasures.replay() == 2
    assert [image.subject_id async for image in client.images.list()] == ["bob"]
    with pytest.raises(SubjectErased):
        await client.images.upload(PICTURE, subject_id=SUBJECT)
    await client.images.upload(PICTURE, subject_id="ann")
    assert [erasure.state async for erasure in admin.subjects.erasures()] == ["DONE", "DONE"]


async def test_the_server_is_not_ready_before_erasures_are_replayed(server):
    server.backend.has_replayed.clear()
    with pytest.raises(DependencyDown, match="erasures"):
        await server.backend.check_ready()


async def test_names_of_subjects_are_stored_only_if_the_settings_say_so(settings, places):
    privacy = PrivacySettings(secret="s" * 32, keep_subject_ids=False)
    async with (
        running_server(settings.model_copy(update={"privacy": privacy})) as server,
        await server.client(Role.ADMIN) as client,
    ):
        image = await client.images.upload(PICTURE, subject_id=SUBJECT)
        await client.batches.submit([("a.jpg", PICTURE)], subject_id=SUBJECT)
        assert image.subject_id == ""
        assert [found async for found in client.images.list(subject_id=SUBJECT)] == [image]
        assert hits(await places.tables(), [SUBJECT.encode()]) == []
        await client.subjects.erase(SUBJECT)
        await server.backend.erasures.sweep()
        assert [found async for found in client.images.list()] == []
        async with connected() as connection:
            assert await connection.fetchval("SELECT count(*) FROM batches") == 0


async def test_the_position_before_all_images_is_newer_than_any(client):
    image = await client.images.upload(PICTURE)
    found = await image_rows.list_images("default", ImageFilter(), "", image_rows.NEWEST, 10)
    assert [listed.image_id for listed in found] == [image.image_id]


async def test_a_subject_is_exported_with_its_images_and_batches(server, client, admin):
    await fill(server, client, "bob", "other", (OTHERS, OTHERS))
    await fill(server, client, SUBJECT, CANARY, (PICTURE, BATCH_PICTURE))
    pieces = [piece async for piece in admin.subjects.export(SUBJECT)]
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert json.loads(files["manifest.json"])["images"] == 1
    documents = {name: json.loads(text) for name, text in files.items() if name.endswith("json")}
    (image,) = [found for name, found in documents.items() if name.startswith("images/")]
    assert (image["filename"], image["subject_id"]) == (f"{CANARY}.jpg", SUBJECT)
    assert len(image["results"]) == 1
    assert files[f"images/{image['image_id']}.jpeg"] == PICTURE
    batches = [found for name, found in documents.items() if name.startswith("batches/")]
    assert {batch["request_id"] for batch in batches} == {f"{CANARY}-0", f"{CANARY}-1"}
    lines = b"".join(files[name] for name in files if name.endswith("results.jsonl")).splitlines()
    names = {json.loads(line)["filename"] for line in lines}
    assert names == {f"{CANARY}-item.jpg", f"{CANARY}-bad.jpg"}
    assert sum(content == BATCH_PICTURE for content in files.values()) == 2
    assert b"other" not in b"".join(files.values())
    empty = b"".join([piece async for piece in admin.subjects.export("nobody")])
    with zipfile.ZipFile(io.BytesIO(empty)) as archive:
        assert archive.namelist() == ["manifest.json"]
    with pytest.raises(RoleInsufficient):
        await all_of(client.subjects.export(SUBJECT))
