"""Builds all components from the settings and connects them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from image_categorizer_server.access.authenticator import Authenticator
from image_categorizer_server.access.guesses import Guesses
from image_categorizer_server.access.key_uses import KeyUses
from image_categorizer_server.access.key_verifier import KeyVerifier
from image_categorizer_server.access.tenant_gate import TenantGate
from image_categorizer_server.db.access_changes import AccessChange, watch_changes
from image_categorizer_server.db.audit import append
from image_categorizer_server.db.database import check_database, check_login, open_database
from image_categorizer_server.db.isolation import role_problem
from image_categorizer_server.db.key import find_key, note_uses
from image_categorizer_server.db.schema import schema_problem
from image_categorizer_server.db.tenant import find_limits, find_state
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.errors import (
    CategorizerError,
    DependencyDown,
    Draining,
    ModelFailing,
    OperatorError,
)
from image_categorizer_server.inference.classifier import Classifier
from image_categorizer_server.inference.engine.trace import Trace
from image_categorizer_server.inference.images.decode import Decoder, ImageLimits
from image_categorizer_server.inference.images.picture import PictureMaker
from image_categorizer_server.inference.images.rendition import (
    RENDERER,
    Renderer,
    writable_formats,
)
from image_categorizer_server.inference.images.trial import Trial
from image_categorizer_server.inference.models.loader import Loader
from image_categorizer_server.inference.models.packaged import (
    FAST,
    FAST_VERSION,
    NAME,
    ensure_fast_version,
    ensure_packaged,
    lacks_fast_version,
    repository_of,
)
from image_categorizer_server.inference.models.registry import Registry
from image_categorizer_server.inference.runtimes.fake import FAKE_MODELS, FakeTimes
from image_categorizer_server.services.audit import Audit
from image_categorizer_server.services.audit_statement import AuditStatements
from image_categorizer_server.services.batch import BatchCheck, Batches, notify_workers
from image_categorizer_server.services.batch_check import check_batch
from image_categorizer_server.services.category import CategoryBook, see_stored
from image_categorizer_server.services.category_head import CategoryHeads
from image_categorizer_server.services.classify import Accounting, Classifications
from image_categorizer_server.services.correction import Corrections
from image_categorizer_server.services.crashing_images import CRASHING_IMAGES_KEY, CrashingImages
from image_categorizer_server.services.data_key import open_sealer
from image_categorizer_server.services.dataset_export import DatasetExports
from image_categorizer_server.services.drift import Drifts, PredictionMeter
from image_categorizer_server.services.duplicate import Duplicates
from image_categorizer_server.services.embedding import Embeddings, KeptEmbeddings
from image_categorizer_server.services.erasure import Erasures, replay_until_done, subjects_of
from image_categorizer_server.services.feedback import FeedbackBook
from image_categorizer_server.services.head_fitting import FitHeads
from image_categorizer_server.services.image import ImagePolicy, Images
from image_categorizer_server.services.image_content import ImageContents, Renderings
from image_categorizer_server.services.image_upload import ImageUploads
from image_categorizer_server.services.key import ApiKeys
from image_categorizer_server.services.legal_hold import LegalHolds
from image_categorizer_server.services.limit import ImageAdmission, Limiter
from image_categorizer_server.services.model import Models
from image_categorizer_server.services.neighbours import Neighbours
from image_categorizer_server.services.receipt import Receipts, receipt_keys_of
from image_categorizer_server.services.refusal import Refusals
from image_categorizer_server.services.replay import Replays
from image_categorizer_server.services.result_cache import ResultCache
from image_categorizer_server.services.retention import Retentions
from image_categorizer_server.services.review import Reviews
from image_categorizer_server.services.sign_in import SignIns
from image_categorizer_server.services.subject_export import SubjectExports
from image_categorizer_server.services.token import (
    Tokens,
    open_tokens,
    sign_ins_of,
    watch_issuers,
)
from image_categorizer_server.services.usage import UsageMeter
from image_categorizer_server.services.webhook import Webhooks
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.buckets import ObjectReader
from image_categorizer_server.stores.cdn import ContentAddresses
from image_categorizer_server.stores.expiring_set import RedisExpiringSet
from image_categorizer_server.stores.in_flight import InFlight
from image_categorizer_server.stores.limiter import RedisLimiter
from image_categorizer_server.stores.object_store import open_storage
from image_categorizer_server.stores.queue import Doorbell
from image_categorizer_server.stores.redis import RedisCache, RedisClient, open_redis
from image_categorizer_server.stores.redis_version import warn_of_vulnerable_redis
from image_categorizer_server.tasks import CANCEL_AGAIN_AFTER_S, TaskOwner
from image_categorizer_server.telemetry import get_log

# Pause between two logins to the database that readiness makes.
LOGIN_INTERVAL_S = 10.0
log = get_log(__name__)


@dataclass(slots=True)
class Backend:
    """The components that servicers use."""

    settings: Settings
    registry: Registry
    classifications: Classifications
    images: Images
    uploads: ImageUploads
    contents: ImageContents
    receipts: Receipts
    replays: Replays
    drifts: Drifts
    predictions: PredictionMeter
    embeddings: Embeddings
    erasures: Erasures
    exports: SubjectExports
    retentions: Retentions
    holds: LegalHolds
    feedback: FeedbackBook
    categories: CategoryBook
    reviews: Reviews
    duplicates: Duplicates
    datasets: DatasetExports
    batches: Batches
    webhooks: Webhooks
    models: Models
    keys: ApiKeys
    audit: Audit
    refusals: Refusals
    authenticator: Authenticator
    limiter: Limiter
    sign_ins: SignIns
    redis: RedisClient
    tasks: TaskOwner
    """Background tasks. The server is not ready once one has died."""
    has_replayed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once no erasure of before a restore is left."""
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server stops: it still serves, but is not ready."""
    refusing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server refuses new calls."""
    _next_login_s: float = field(default=0.0, init=False)
    _has_schema: bool = field(default=False, init=False)

    async def load_models(self) -> None:
        """Starts to load every model; returns once the default model answers, or cannot.

        Only then is the int8 version of the packaged model made, in the background.

        Raises:
            OperatorError: the repository cannot be read.
        """
        lacks_fast = await asyncio.to_thread(lacks_fast_version, self.settings)
        if lacks_fast:
            self.registry.expect(NAME, FAST_VERSION, FAST)
        try:
            await ensure_packaged(self.settings.models)
        except OperatorError as error:  # the other models answer all the same
            log.warning("the packaged model is missing", reason=str(error))
        await self.registry.load_all()
        if lacks_fast:
            self.tasks.start(self._make_fast_version(), "maker of the int8 version")

    async def _make_fast_version(self) -> None:
        try:
            await ensure_fast_version(self.settings)
            with suppress(DependencyDown):  # the watcher tries again
                await self.registry.refresh()
        finally:
            self.registry.expect_no_more(NAME, FAST_VERSION)

    def check_live(self) -> None:
        """Passes a process that a restart would not help.

        Raises:
            ModelFailing: a model call hangs. Threads cannot be ended.
        """
        if self.registry.longest_busy_s() > self.settings.inference.stuck_s:
            raise ModelFailing("a model call does not end")

    async def check_ready(self) -> list[str]:
        """Returns the components that are down but that classification does not need.

        Raises:
            Draining: the server stops.
            ModelLoading: the default model is loading.
            ModelFailing: the default model cannot answer; the message says what to do.
            DependencyDown: a background task has died, or the database does not answer, or its
                tables are not of this version, or production may not use the role.
        """
        if self.draining.is_set():
            raise Draining("the server is stopping")
        self.tasks.check()
        self.registry.check_ready()
        await self._check_database()
        await self._check_schema()
        if not self.has_replayed.is_set():
            raise DependencyDown("erasures are compared with the image storage")
        try:
            await self.redis.check()
        except DependencyDown:
            return ["redis"]
        return []

    async def _check_database(self) -> None:
        try:
            await check_database()
            # Pooled connections stay open when the password or the rights change; new ones fail.
            if time.monotonic() >= self._next_login_s:
                await check_login(self.settings.database_url, self.settings.database.timeout_s)
                self._next_login_s = time.monotonic() + LOGIN_INTERVAL_S
        except CategorizerError:
            raise
        except Exception as error:
            raise DependencyDown("the database does not answer") from error

    async def _check_schema(self) -> None:
        # Only until it passes: a newer program may migrate the database while this one serves.
        if not self._has_schema:
            problem = await schema_problem() or await role_problem(self.settings.environment)
            if problem:
                raise DependencyDown(problem)
            self._has_schema = True


@asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[Backend]:
    """Yields the backend, without loaded models. Closes everything at the end.

    Enter it in the task that starts the gRPC server (see `open_database`).
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_database(settings.database_url, settings.database))
        redis = await stack.enter_async_context(open_redis(settings.redis_url, settings.redis))
        cache = RedisCache(redis, settings.cache.timeout_s)
        results = ResultCache(cache, settings.cache) if settings.cache.ttl_s else None
        refused_images = RedisExpiringSet(redis, CRASHING_IMAGES_KEY, settings.redis.timeout_s)
        crashing = CrashingImages(
            Trial(image_limits(settings), settings.test.failpoint),
            refused_images,
            settings.server.crash_memory_s,
            _in_flight(settings.server.in_flight_path, stack),
        )
        stack.push_async_callback(crashing.close)
        meter = UsageMeter(settings.usage)
        stack.push_async_callback(meter.close)
        predictions = PredictionMeter(settings.drift)
        stack.push_async_callback(predictions.close)
        registry = _registry(settings, stack)
        storage = await stack.enter_async_context(
            open_storage(settings, open_sealer(settings.encryption))
        )
        fetcher = await stack.enter_async_context(
            open_fetcher(settings.fetch, ObjectReader(settings).read)
        )
        fetch = partial(fetcher.fetch, max_bytes=settings.max_image_bytes)
        receipt_keys = receipt_keys_of(settings.audit)
        transactions = await stack.enter_async_context(TaskOwner())
        kept = KeptEmbeddings(Neighbours(settings.embedding), transactions)
        corrections = Corrections(settings.correction)
        classifier = Classifier(registry, meter.charge_model)
        embeddings = Embeddings(classifier, registry, kept, crashing, meter, fetch)
        subjects = subjects_of(settings)
        # Nobody waits for it, so it gets more time than a look into the cache.
        patient = RedisCache(redis, settings.redis.timeout_s)
        erasures = Erasures.of(storage, patient, refused_images, settings)
        webhooks = Webhooks(settings.webhook, fetcher)
        round_trips = await stack.enter_async_context(TaskOwner(clean_up_s=CANCEL_AGAIN_AFTER_S))
        limiter = Limiter(
            RedisLimiter(redis, settings.quota.timeout_s, round_trips), settings.quota, find_limits
        )
        decoder = Decoder(image_limits(settings))
        admission = ImageAdmission(limiter)
        images = Images(
            storage,
            PictureMaker(decoder).picture_of,
            subjects,
            fetch,
            ImagePolicy(admission.admit, admission.give_back, receipt_keys.sign),
            transactions,
        )
        fitting = FitHeads(
            settings.category,
            partial(see_stored, images, embeddings),
            await stack.enter_async_context(TaskOwner()),
        )
        heads = CategoryHeads(settings, fitting)
        contents = ImageContents(
            images,
            storage,
            Renderings(Renderer(decoder).render, writable_formats(), RENDERER),
            ContentAddresses(storage, settings.cdn),
            settings.images,
        )
        batches = Batches(
            storage,
            settings.batch,
            settings.max_image_bytes,
            partial(notify_workers, Doorbell(redis)),
            BatchCheck(
                partial(check_batch, registry, webhooks),
                limiter,
                subjects,
                PictureMaker(decoder).blurred,
            ),
        )
        statements = AuditStatements.of(storage, settings)
        refusals = Refusals(append, settings.audit)
        stack.push_async_callback(refusals.close)
        tokens = await stack.enter_async_context(open_tokens(settings))
        tenants = TenantGate(find_state, settings.security.key_cache_s)
        # Entered last: tasks end before what they use is closed.
        owner = TaskOwner(clean_up_s=CANCEL_AGAIN_AFTER_S)  # none cleans up, some ask Redis
        tasks = await stack.enter_async_context(owner)
        tasks.start(crashing.watch(), "reader of crashing images")
        watch_issuers(tokens, tasks)
        if settings.environment == "production":
            tasks.start(warn_of_vulnerable_redis(redis), "reader of Redis's version")
        tasks.start(refusals.run(), "writer of refused calls")
        tasks.start(meter.run(), "writer of usage")
        tasks.start(predictions.run(), "counter of predictions")
        has_replayed = asyncio.Event()
        with all_tenants():
            tasks.start(replay_until_done(erasures, has_replayed), "replay of erasures")
            tasks.start(statements.run(), "maker of statements about the audit")
        yield Backend(
            settings=settings,
            registry=registry,
            classifications=Classifications(
                classifier,
                registry,
                results,
                fetch,
                Accounting(crashing, meter, images, predictions, kept, corrections, heads),
            ),
            images=images,
            uploads=ImageUploads(
                images, subjects, storage, settings.uploads, settings.max_image_bytes
            ),
            embeddings=embeddings,
            feedback=FeedbackBook(registry),
            categories=CategoryBook(images, embeddings, registry, heads, settings.category),
            reviews=Reviews(kept.of_image, kept.neighbours),
            duplicates=Duplicates(),
            datasets=DatasetExports(images, PictureMaker(decoder).picture_of),
            contents=contents,
            receipts=Receipts(receipt_keys, storage.sealer),
            replays=Replays(registry, classifier, images, meter),
            drifts=Drifts(registry),
            predictions=predictions,
            erasures=erasures,
            exports=SubjectExports(images, batches, subjects),
            retentions=Retentions.of(settings),
            holds=LegalHolds(subjects),
            batches=batches,
            webhooks=webhooks,
            models=Models(registry, settings, append),
            keys=ApiKeys(settings.security),
            audit=Audit(),
            refusals=refusals,
            authenticator=_authenticator(
                settings, tokens, tenants, limiter, tasks, (corrections, heads)
            ),
            limiter=limiter,
            sign_ins=sign_ins_of(settings, tokens, tenants),
            redis=redis,
            tasks=tasks,
            has_replayed=has_replayed,
        )


def _authenticator(
    settings: Settings,
    tokens: Tokens | None,
    tenants: TenantGate,
    limiter: Limiter,
    tasks: TaskOwner,
    taught: tuple[Corrections, CategoryHeads],
) -> Authenticator:
    """Returns the authenticator, and starts the tasks that keep caches and the uses of keys."""
    security, (corrections, heads) = settings.security, taught
    uses = KeyUses(note_uses, security.key_use_interval_s)
    guesses = Guesses(security.max_unknown_keys_per_minute)
    verifier = KeyVerifier(find_key, security.key_cache_s, guesses, uses)

    def follow(change: AccessChange) -> None:
        if change.key_id:
            verifier.forget_key(change.key_id)
        if change.tenant_id:
            verifier.forget_tenant(change.tenant_id)
            tenants.forget(change.tenant_id)
            limiter.forget_tenant(change.tenant_id)
        if change.feedback_tenant_id:
            corrections.forget_tenant(change.feedback_tenant_id)
            heads.forget_tenant(change.feedback_tenant_id)
        if change.category_tenant_id:
            heads.forget_tenant(change.category_tenant_id)

    def forget_all() -> None:
        verifier.forget_all()
        tenants.forget_all()
        limiter.forget_all()
        corrections.forget_all()
        heads.forget_all()

    watching = watch_changes(settings.database_url, settings.database.timeout_s, follow, forget_all)
    tasks.start(watching, "watcher of access")
    tasks.start(uses.write_forever(), "writer of key uses")
    return Authenticator(verifier, tenants, tokens.verifier if tokens else None)


def _in_flight(path: str, stack: AsyncExitStack) -> InFlight | None:
    """Returns the record of the images in hand, which the stack closes; None without a path.

    Raises:
        OperatorError: the folder cannot be written.
    """
    if not path:
        return None
    try:
        in_flight = InFlight(Path(path))
    except OSError as error:
        name = "CATEGORIZER_SERVER__IN_FLIGHT_PATH"
        raise OperatorError(f"{name}: cannot write to {path}: {error.strerror}.") from None
    stack.callback(in_flight.close)
    return in_flight


def _registry(settings: Settings, stack: AsyncExitStack) -> Registry:
    """Returns a registry without loaded models, which the stack closes."""
    fake = fake_times(settings.test.fake_model)
    trace = stack.enter_context(Trace(Path(settings.test.trace))) if settings.test.trace else None
    decoder = Decoder(image_limits(settings))
    registry = Registry(
        repository_of(settings, *([FAKE_MODELS] if fake else [])),
        Loader(decoder, settings.inference, settings.models, fake, trace),
        settings.models,
    )
    stack.push_async_callback(registry.close)
    return registry


def fake_times(text: str) -> FakeTimes | None:
    """Returns the timings of the model `fake`; None if the setting is empty.

    Raises:
        OperatorError: the setting is malformed.
    """
    try:
        return FakeTimes.parse(text) if text else None
    except ValueError as error:
        raise OperatorError(f"CATEGORIZER_TEST__FAKE_MODEL {error}.") from None


def image_limits(settings: Settings) -> ImageLimits:
    """Returns the limits of an image."""
    limits = settings.limits
    return ImageLimits(
        max_bytes=settings.max_image_bytes,
        max_pixels=limits.max_image_pixels,
        max_side_px=limits.max_side_px,
        max_aspect_ratio=limits.max_aspect_ratio,
        max_jpeg_scans=limits.max_jpeg_scans,
        max_tags=limits.max_image_tags,
        min_rows_share=limits.min_rows_share,
    )
