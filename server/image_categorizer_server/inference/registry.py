"""The models that this server answers with: finds, loads, warms, watches the repository, lets go.

LOADING ─▶ READY ─▶ (removed from disk: drained, then gone)
    └────▶ FAILED   until its manifest changes
"""

import asyncio
from dataclasses import dataclass, field

from image_categorizer_server.domain import ModelRef, ModelState, ModelStatus
from image_categorizer_server.errors import ModelLoading, ModelNotFound, OperatorError
from image_categorizer_server.inference.loader import LoadedModel, Loader
from image_categorizer_server.inference.manifest import Manifest
from image_categorizer_server.inference.repository import Found, Repository, manifest_of
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
Key = tuple[str, int]


@dataclass(slots=True)
class _Entry:
    found: Found
    manifest: Manifest
    state: ModelState = ModelState.LOADING
    message: str = ""
    model: LoadedModel | None = field(default=None)


class Registry:
    """Knows every model version by name and number."""

    def __init__(
        self, repository: Repository, loader: Loader, default: str, scan_interval_s: float
    ) -> None:
        self._repository = repository
        self._loader = loader
        self._default = default
        self._scan_interval_s = scan_interval_s
        self._entries: dict[Key, _Entry] = {}
        self._malformed: dict[Key, tuple[int, str]] = {}
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def default(self) -> str:
        """The model that answers a request which names none."""
        return self._default

    @property
    def is_ready(self) -> bool:
        """Whether the default model answers."""
        return any(e.model for (name, _), e in self._entries.items() if name == self._default)

    async def load_all(self) -> None:
        """Loads every model found.

        Raises:
            OperatorError: expected; one of them cannot be loaded or warmed, or the default is not
                among them.
        """
        await self._refresh()
        for _, reason in self._malformed.values():
            raise OperatorError(reason)
        for entry in self._entries.values():
            if entry.state is ModelState.FAILED:
                name, version = entry.manifest.name, entry.manifest.version
                raise OperatorError(
                    f"The model {name} version {version} cannot serve: {entry.message} "
                    "Take it away with "
                    f"`image-categorizer models remove {name} --version {version}`."
                )
        if not self.is_ready:
            raise OperatorError(
                f"The default model {self._default} is not in the repository; "
                "add it with `image-categorizer models add`, or change CATEGORIZER_MODELS__DEFAULT."
            )

    async def watch(self) -> None:
        """Takes up what appears on disk and lets go of what disappears, until cancelled."""
        while True:
            await asyncio.sleep(self._scan_interval_s)
            try:
                await self._refresh()
            except OSError as error:
                log.warning("the model repository cannot be read", error=str(error))

    async def close(self) -> None:
        """Waits for requests in flight and stops every model."""
        for task in self._unloading:
            task.cancel()
        for entry in self._entries.values():
            if entry.model:
                await entry.model.batcher.stop()

    def get(self, name: str, version: int | None) -> LoadedModel:
        """Returns the model that answers; no name: the default, no version: the newest ready.

        Raises:
            ModelNotFound: expected; there is none, or it could not be loaded.
            ModelLoading: expected; it will be ready soon.
        """
        wanted = name or self._default
        entries = [e for (n, v), e in self._entries.items() if n == wanted and version in (None, v)]
        ready = [entry for entry in entries if entry.model]
        if ready:
            model = max(ready, key=lambda entry: entry.manifest.version).model
            assert model is not None
            return model
        if any(entry.state is ModelState.LOADING for entry in entries):
            raise ModelLoading(
                f"the model '{wanted}' is being loaded", retry_after_s=self._scan_interval_s
            )
        raise ModelNotFound(
            f"there is no model '{wanted}'"
            if version is None
            else f"there is no version {version} of model '{wanted}'"
        )

    def statuses(self) -> list[ModelStatus]:
        """Returns all versions, by name and number."""
        newest = max(
            (v for (n, v), e in self._entries.items() if n == self._default and e.model),
            default=None,
        )
        return [
            _status(self._entries[key], (self._default, newest) == key)
            for key in sorted(self._entries)
        ]

    async def _refresh(self) -> None:
        found = {(f.name, f.version): f for f in await asyncio.to_thread(self._repository.scan)}
        for key, entry in list(self._entries.items()):
            if key not in found or found[key].stamp != entry.found.stamp:
                self._let_go(key, entry)
        for key, new in found.items():
            if key not in self._entries and self._malformed.get(key, (0, ""))[0] != new.stamp:
                await self._take_up(key, new)

    async def _take_up(self, key: Key, found: Found) -> None:
        try:
            manifest = manifest_of(found)
        except OperatorError as error:
            self._malformed[key] = found.stamp, str(error)
            log.warning(
                "a model has no usable manifest",
                name=found.name,
                version=found.version,
                reason=str(error),
            )
            return
        entry = self._entries[key] = _Entry(found, manifest)
        log.info("loading a model", name=found.name, version=found.version, digest=manifest.digest)
        try:
            entry.model = await self._loader.load(found.folder, manifest)
        except OperatorError as error:
            entry.state, entry.message = ModelState.FAILED, str(error)
            log.warning(
                "a model cannot be loaded",
                name=found.name,
                version=found.version,
                reason=str(error),
            )
            return
        entry.state = ModelState.READY
        runtime = entry.model.runtime
        log.info(
            "a model is ready",
            name=found.name,
            version=found.version,
            runtime=runtime.name,
            device=runtime.device,
        )

    def _let_go(self, key: Key, entry: _Entry) -> None:
        del self._entries[key]
        if entry.model is None:
            return
        log.info("letting go of a model", name=key[0], version=key[1])
        task = asyncio.create_task(entry.model.batcher.stop())
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)


def _status(entry: _Entry, is_default: bool) -> ModelStatus:
    manifest, model = entry.manifest, entry.model
    return ModelStatus(
        ref=ModelRef(manifest.name, manifest.version, manifest.digest),
        state=entry.state,
        state_message=entry.message,
        is_default=is_default,
        categories=manifest.domain_categories(),
        input_width_px=manifest.input.width_px,
        input_height_px=manifest.input.height_px,
        activation=manifest.activation,
        runtime=model.runtime.name if model else "",
        device=model.runtime.device if model else "",
        licence=manifest.licence,
        origin=manifest.origin,
    )
