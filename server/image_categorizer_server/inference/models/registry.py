"""The models that this server answers with: finds, loads, warms, watches the repository, lets go.

LOADING ─▶ READY ─▶ UNLOADED, or removed from disk: drained first
    └────▶ FAILED   until its manifest changes, or it is asked for again

Aliases and what is unloaded are the repository's to say, so that all servers agree.  Models are
loaded one after the other, while those that are READY answer.
"""

import asyncio
from collections.abc import Callable, Coroutine

from image_categorizer_server.domain.model import ModelState, ModelStatus
from image_categorizer_server.errors import DependencyDown, ModelFailed, ModelInUse, OperatorError
from image_categorizer_server.inference.models.aliases import Aliases
from image_categorizer_server.inference.models.loader import LoadedModel, Loader
from image_categorizer_server.inference.models.repository import Found, Repository, manifest_of
from image_categorizer_server.inference.models.serving import Serving
from image_categorizer_server.inference.models.versions import Entry, Key, Versions, not_found
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
            OperatorError: one of them cannot be loaded or warmed, or the default is not
                among them.
        """
        await self.refresh()
        malformed = [reason for _, reason in self._malformed.values()]
        for reason in (*malformed, *self.versions.unread.values()):
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
                f"The version of the default model {self.default} that is to answer is not in the "
                "repository, or unloaded; name another with "
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
            ModelNotFound: the repository does not hold it.
            ModelFailed: it cannot be loaded.
            DependencyDown: the repository cannot be written.
        """
        await self.refresh()
        held = [v for n, v in (*self.versions.entries, *self._malformed) if n == name]
        number = max(held, default=0) if version is None else version
        if (name, number) in self._malformed:
            raise ModelFailed(f"the manifest of version {number} of model '{name}' is malformed")
        if number not in held:
            raise not_found(name, version)
        entry = self.versions.entries[name, number]
        if entry.state is ModelState.UNLOADED:
            await self._write(name, lambda: self._repository.mark_unloaded(name, number, False))
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
            ModelNotFound: there is none.
            ModelInUse: an alias points to it, or it is all that the default model has.
            DependencyDown: the repository cannot be written.
        """
        await self.refresh()
        number = self.status(name, version).ref.version
        entry = self.versions.entries[name, number]
        if used := self._use_of(entry):
            raise ModelInUse(used)
        await self._write(name, lambda: self._repository.mark_unloaded(name, number, True))
        ending = self._release(entry, ModelState.UNLOADED)
        status = self.status(name, number)
        if ending:
            await asyncio.wait([ending])
        return status

    def _use_of(self, entry: Entry) -> str:
        """Returns who relies on the version, in a sentence; empty where nobody does."""
        name, number = entry.manifest.name, entry.manifest.version
        if aliases := self.versions.pointing_to(name, number):
            return f"the alias '{aliases[0]}' points to version {number}; move it first"
        others = (other.serving for other in self.versions.of(name) if other is not entry)
        if name == self.default and not any(others):
            return f"version {number} is all that the default model '{name}' has"
        return ""

    def reload(self, name: str, version: int) -> None:
        """Lets go of a version that answers and loads it anew; must be called on the event loop."""
        entry = self.versions.entries.get((name, version))
        if entry and entry.serving:
            self._release(entry)
            self._start_loading(entry)

    async def set_alias(
        self, name: str, alias: str, version: int | None, canary_percent: float
    ) -> ModelStatus:
        """Points an alias to a version, or takes it away.

        Returns the version; where the alias was taken away the one that answers without a version.

        Raises:
            ModelNotFound: there is no such model or version.
            ModelFailed: the version does not answer.
            DependencyDown: the repository cannot be written.
        """
        await self.refresh()
        status = self.status(name, version)
        if version is not None and status.state is not ModelState.READY:
            raise ModelFailed(
                f"version {version} of model '{name}' does not answer: it is {status.state.value}"
            )
        await self._write(
            name, lambda: self._repository.change_alias(name, alias, version, canary_percent)
        )
        return self.status(name, version)

    async def _write(self, name: str, change: Callable[[], Aliases]) -> None:
        async with self._refreshing:
            try:
                self.versions.wanted[name] = await asyncio.to_thread(change)
            except OperatorError as error:
                log.warning("the aliases cannot be changed", name=name, error=str(error))
                raise DependencyDown("the model repository cannot be written to") from None
            self.versions.reroute()

    async def refresh(self) -> None:
        """Looks through the repository once; what it begins to load goes on loading.

        Raises:
            OSError: the repository cannot be read.
        """
        async with self._refreshing:
            found, aliases = await asyncio.to_thread(
                lambda: (self._repository.scan(), self._repository.aliases())
            )
            self.versions.follow(aliases)
            self._follow({(f.name, f.version): f for f in found})
            self.versions.reroute()

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
        for (name, version), entry in entries.items():
            is_wanted = version not in self.versions.wanted_of(name).unloaded
            if is_wanted and entry.state is ModelState.UNLOADED:
                self._start_loading(entry)
            elif not (is_wanted or entry.state is ModelState.UNLOADED or self._use_of(entry)):
                self._release(entry, ModelState.UNLOADED)

    def _take_up(self, key: Key, found: Found) -> None:
        try:
            manifest = manifest_of(found)
        except OperatorError as error:
            self._malformed[key] = found.stamp, str(error)
            log.warning("a model has no usable manifest", reason=str(error), **_names(found))
            return
        self._malformed.pop(key, None)
        self.versions.entries[key] = Entry(found, manifest)
        if key[1] in self.versions.wanted_of(key[0]).unloaded:
            self.versions.entries[key].state = ModelState.UNLOADED
        else:
            self._start_loading(self.versions.entries[key])

    def _let_go(self, key: Key) -> None:
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
        names = _names(entry.found)
        log.info("a model is ready", runtime=runtime.name, device=runtime.device, **names)

    def _release(
        self, entry: Entry, state: ModelState = ModelState.LOADING
    ) -> asyncio.Task[None] | None:
        """Ends what the entry does; returns what ends when its last request is answered."""
        log.info("letting go of a model", **_names(entry.found))
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
