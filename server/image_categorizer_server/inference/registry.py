"""The models that this server answers with: finds, loads, warms, watches the repository, lets go.

LOADING ─▶ READY ─▶ UNLOADED, or removed from disk: drained first
    └────▶ FAILED   until its manifest changes, or it is asked for again

Models are loaded one after the other, while those that are READY answer.
"""

import asyncio
from collections.abc import Coroutine, Mapping

from image_categorizer_server.domain import ModelState, ModelStatus
from image_categorizer_server.errors import (
    DependencyDown,
    ModelFailed,
    ModelInUse,
    OperatorError,
)
from image_categorizer_server.inference.aliases import Aliases
from image_categorizer_server.inference.loader import LoadedModel, Loader
from image_categorizer_server.inference.repository import Found, Repository, manifest_of
from image_categorizer_server.inference.serving import Serving
from image_categorizer_server.inference.versions import Entry, Key, Versions, not_found
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)


class Registry:
    """Brings versions to READY and away again; `versions` answers what is asked about them."""

    def __init__(
        self, repository: Repository, loader: Loader, default: str, scan_interval_s: float
    ) -> None:
        self._repository = repository
        self._loader = loader
        self._scan_interval_s = scan_interval_s
        self.versions = Versions(default, scan_interval_s)
        self.get, self.using = self.versions.get, self.versions.using
        self.status, self.statuses = self.versions.status, self.versions.statuses
        self._malformed: dict[Key, tuple[int, str]] = {}
        self._unread: dict[str, str] = {}
        self._refreshing, self._loading = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def default(self) -> str:
        """The model that answers a request which names none."""
        return self.versions.default

    @property
    def is_ready(self) -> bool:
        """Whether the default model answers."""
        return self.versions.answers(self.default)

    async def load_all(self) -> None:
        """Loads every model found.

        Raises:
            OperatorError: expected; one of them cannot be loaded or warmed, or the default is not
                among them.
        """
        await self.refresh()
        for reason in (*(reason for _, reason in self._malformed.values()), *self._unread.values()):
            raise OperatorError(reason)
        entries = list(self.versions.entries.values())
        await asyncio.gather(*(entry.loading for entry in entries if entry.loading))
        for entry in entries:
            if entry.state is ModelState.FAILED:
                name, version = entry.manifest.name, entry.manifest.version
                raise OperatorError(
                    f"The model {name} version {version} cannot serve: {entry.message} "
                    "Take it away with "
                    f"`image-categorizer models remove {name} --version {version}`."
                )
        if not self.versions.of(self.default):
            raise OperatorError(
                f"The default model {self.default} is not in the repository; "
                "add it with `image-categorizer models add`, or change CATEGORIZER_MODELS__DEFAULT."
            )
        if not self.is_ready:
            raise OperatorError(
                f"The alias stable of the default model {self.default} points to a version that "
                "is not in the repository; point it elsewhere with "
                f"`image-categorizer models alias {self.default} stable VERSION`."
            )

    async def watch(self) -> None:
        """Takes up what appears on disk and lets go of what disappears, until cancelled."""
        while True:
            await asyncio.sleep(self._scan_interval_s)
            try:
                await self.refresh()
            except OSError as error:
                log.warning("the model repository cannot be read", error=str(error))
            for (name, version), entry in list(self.versions.entries.items()):
                if entry.serving and entry.serving.model.batcher.is_broken:
                    self.reload(name, version)

    async def close(self) -> None:
        """Waits for requests in flight and stops every model."""
        for entry in self.versions.entries.values():
            self._release(entry)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def load(self, name: str, version: int | None) -> ModelStatus:
        """Loads one version, None for the newest; returns when it answers.

        A caller who leaves does not end the loading.

        Raises:
            ModelNotFound: expected; the repository does not hold it.
            ModelFailed: expected; it cannot be loaded.
        """
        await self.refresh()
        held = [v for n, v in (*self.versions.entries, *self._malformed) if n == name]
        number = max(held, default=0) if version is None else version
        if (name, number) in self._malformed:
            raise ModelFailed(f"the manifest of version {number} of model '{name}' is malformed")
        if number not in held:
            raise not_found(name, version)
        entry = self.versions.entries[name, number]
        if entry.state in (ModelState.FAILED, ModelState.UNLOADED):
            self._start_loading(entry)
        if entry.loading:
            await asyncio.wait([entry.loading])
        if entry.serving is None:
            raise ModelFailed(entry.message or f"the model '{name}' was let go of meanwhile")
        return self.status(name, number)

    async def unload(self, name: str, version: int | str) -> ModelStatus:
        """Lets go of one version; returns when its requests are answered and its memory is free.

        Raises:
            ModelNotFound: expected; there is none.
            ModelInUse: expected; an alias points to it, or it is all that the default model has.
        """
        await self.refresh()
        number = self.status(name, version).ref.version
        if aliases := self.versions.pointing_to(name, number):
            raise ModelInUse(f"the alias '{aliases[0]}' points to version {number}; move it first")
        entry = self.versions.entries[name, number]
        if name == self.default and not any(
            other.serving for other in self.versions.of(name) if other is not entry
        ):
            raise ModelInUse(f"version {number} is all that the default model '{name}' has")
        log.info("unloading a model", name=name, version=number)
        ending = self._release(entry, ModelState.UNLOADED)
        status = self.status(name, number)
        if ending:
            await asyncio.wait([ending])
        return status

    def reload(self, name: str, version: int) -> None:
        """Lets go of a version that answers and loads it anew; must be called on the event loop."""
        entry = self.versions.entries.get((name, version))
        if entry and entry.serving:
            log.info("loading a model anew", name=name, version=version)
            self._release(entry)
            self._start_loading(entry)

    async def set_alias(
        self, name: str, alias: str, version: int | None, canary_percent: float
    ) -> ModelStatus:
        """Points an alias to a version, or takes it away.

        Returns the version; where the alias was taken away the one that answers without a version.

        Raises:
            ModelNotFound: expected; there is no such model or version.
            ModelFailed: expected; the version does not answer.
            DependencyDown: expected; the repository cannot be written.
        """
        await self.refresh()
        status = self.status(name, version)
        if version is not None and status.state is not ModelState.READY:
            raise ModelFailed(
                f"version {version} of model '{name}' does not answer: it is {status.state.value}"
            )
        async with self._refreshing:
            try:
                aliases = await asyncio.to_thread(
                    self._repository.change_alias, name, alias, version, canary_percent
                )
            except OperatorError as error:
                log.warning("an alias cannot be set", name=name, alias=alias, error=str(error))
                raise DependencyDown("the model repository cannot be written to") from None
            self.versions.wanted[name] = aliases
            self.versions.reroute()
        return self.status(name, version)

    async def refresh(self) -> None:
        """Looks through the repository once; what it begins to load goes on loading.

        Raises:
            OSError: the repository cannot be read.
        """
        async with self._refreshing:
            found, aliases = await asyncio.to_thread(
                lambda: (self._repository.scan(), self._repository.aliases())
            )
            self._follow_aliases(aliases)
            self._follow({(f.name, f.version): f for f in found})
            self.versions.reroute()

    def _follow_aliases(self, read: Mapping[str, Aliases | OperatorError]) -> None:
        wanted, unread = {}, {}
        for name, aliases in read.items():
            if isinstance(aliases, OperatorError):
                unread[name] = str(aliases)
                wanted[name] = self.versions.wanted.get(name, Aliases())
                if self._unread.get(name) != unread[name]:
                    log.warning("aliases stay as they were", name=name, reason=unread[name])
            else:
                wanted[name] = aliases
        self.versions.wanted, self._unread = wanted, unread

    def _follow(self, found: dict[Key, Found]) -> None:
        entries = self.versions.entries
        for key, new in found.items():
            if key in entries and entries[key].found.stamp != new.stamp:
                self._let_go(key)
            if key not in entries and self._malformed.get(key, (0, ""))[0] != new.stamp:
                self._take_up(key, new)
        for key in [key for key in self._malformed if key not in found]:
            del self._malformed[key]
        for key in [key for key in entries if key not in found]:
            successors = [entries.get(other) for other in found if other[0] == key[0]]
            # What is removed in favour of another answers until that one does.
            if not any(entry and entry.state is ModelState.LOADING for entry in successors):
                self._let_go(key)
        for name, aliases in self.versions.wanted.items():
            for version in aliases.versions.values():
                entry = entries.get((name, version))
                if entry and entry.state is ModelState.UNLOADED:  # another server points to it
                    self._start_loading(entry)

    def _take_up(self, key: Key, found: Found) -> None:
        try:
            manifest = manifest_of(found)
        except OperatorError as error:
            self._malformed[key] = found.stamp, str(error)
            log.warning("a model has no usable manifest", reason=str(error), **_names(found))
            return
        self._malformed.pop(key, None)
        self.versions.entries[key] = Entry(found, manifest)
        self._start_loading(self.versions.entries[key])

    def _let_go(self, key: Key) -> None:
        log.info("letting go of a model", name=key[0], version=key[1])
        self._release(self.versions.entries.pop(key))

    def _start_loading(self, entry: Entry) -> None:
        entry.state, entry.message = ModelState.LOADING, ""
        entry.loading = self._run(self._load(entry))

    async def _load(self, entry: Entry) -> None:
        names = _names(entry.found)
        async with self._loading:
            log.info("loading a model", digest=entry.manifest.digest, **names)
            try:
                model = await self._loader.load(entry.found.folder, entry.manifest)
            except OperatorError as error:
                entry.state, entry.message = ModelState.FAILED, str(error)
                log.warning("a model cannot be loaded", reason=str(error), **names)
            except Exception:
                entry.state, entry.message = ModelState.FAILED, "The server's log says why."
                log.exception("a bug while a model was loaded", **names)
            else:
                self._serve(entry, model)
        self.versions.reroute()

    @staticmethod
    def _serve(entry: Entry, model: LoadedModel) -> None:
        entry.serving, entry.state = Serving(model), ModelState.READY
        runtime = model.runtime
        log.info(
            "a model is ready",
            runtime=runtime.name,
            device=runtime.device,
            **_names(entry.found),
        )

    def _release(
        self, entry: Entry, state: ModelState = ModelState.LOADING
    ) -> asyncio.Task[None] | None:
        """Ends what the entry does; returns what ends when its last request is answered."""
        if entry.loading:
            entry.loading.cancel()
        serving, entry.serving, entry.loading = entry.serving, None, None
        entry.state, entry.message = state, ""
        self.versions.reroute()
        return self._run(serving.end()) if serving else None

    def _run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _names(found: Found) -> dict[str, str | int]:
    return {"name": found.name, "version": found.version}
