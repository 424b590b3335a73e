"""The models of this server: finds, loads, warms up, reloads and unloads them.

LOADING ─▶ READY ─▶ UNLOADED, or removed from disk; requests in flight finish first
    │       └────▶ STANDBY   while others need its memory; a request loads it again.  What answers
    │                        only on request begins here
    └────▶ FAILED   until its manifest changes, or `load` is called

The repository holds the aliases and the list of unloaded versions, so all servers agree.  A few
models load at a time, while READY ones answer.  A model that cannot be loaded concerns no other.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from image_categorizer_server.domain.classification import Caller
from image_categorizer_server.domain.model import ModelState, ModelStatus
from image_categorizer_server.errors import (
    DependencyDown,
    ModelFailed,
    ModelInUse,
    OperatorError,
)
from image_categorizer_server.inference.models.aliases import Aliases
from image_categorizer_server.inference.models.catalog import Catalog, Key
from image_categorizer_server.inference.models.loader import Loader
from image_categorizer_server.inference.models.repository import Found, Repository, manifest_of
from image_categorizer_server.inference.models.residency import Residency
from image_categorizer_server.inference.models.version import ModelVersion, Serving, not_found
from image_categorizer_server.inference.runtimes.heap import trim_heap
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.tasks import TaskOwner
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
# When a server closes, its calls have been cancelled: what a model still does ends with its call.
CLOSE_WITHIN_S = 4.0
# How long a load waits for the last requests of the versions whose memory it needs.
MAKE_WAY_WITHIN_S = 60.0
# How long what answers only on request waits to be loaded, unless a request asks for it: after a
# start, other processes of the machine start too, and the first requests come.
LATER_S = 10.0
LATER_NICENESS = 15
"""Of the warm-up then: calls come first.  At 19, a busy machine would keep the loads behind it
waiting for minutes."""
STOPPED = ModelState.FAILED, ModelState.UNLOADED, ModelState.STANDBY
"""The states of a version that `load` starts to load."""


class Registry(Catalog):
    """The models of one server process: loads what the repository holds, and follows it."""

    def __init__(
        self,
        repository: Repository,
        loader: Loader,
        settings: ModelSettings,
        close_within_s: float = CLOSE_WITHIN_S,
        later_s: float = LATER_S,
    ) -> None:
        """Starts without models; see `load_all`.

        Args:
            repository: holds the models.
            loader: loads them.
            settings: the default model, how often to look into the repository, how many models load
                at a time, and the bound on their memory.
            close_within_s: how long `close` waits for models to stop.
            later_s: after what time to load what answers only on request.
        """
        super().__init__(settings.default, retry_after_s=settings.scan_interval_s)
        self._repository = repository
        self._loader = loader
        self._scan_interval_s = settings.scan_interval_s
        self._residency = Residency(settings.max_resident_bytes, loader.bounds)
        self._refreshing = asyncio.Lock()
        self._close_within_s = close_within_s
        # Two that load at a time could each take the memory that the other has freed.
        loads = 1 if self._residency.is_bounded else settings.max_concurrent_loads
        self._loading = asyncio.Semaphore(loads)
        self._tasks = TaskOwner()
        self._later_s = later_s
        self._later = TaskOwner()
        self._passed_over: dict[Path, str] = {}

    async def demand(
        self, name: str, version: int | str | None, content: bytes, caller: Caller
    ) -> None:
        """Loads the version that answers, and waits for it, if it is in STANDBY.

        Call it before `using` and `get`, which wait for nothing.

        Args:
            name: the model; empty for the default.
            version: a number or an alias; None as for `get`.
            content: the encoded image.
            caller: lane and deadline.

        Raises:
            Overloaded: too many images wait for the version.
            ModelFailed: it does not fit into memory.
            DeadlineExceeded: it was not loaded in time.
        """
        name = name or self._default
        number = self._routing.version_for(name, version, content)
        found = self._versions.get((name, number)) if number else None
        if found is None or not found.is_on_demand:
            return
        if found.state is ModelState.STANDBY:
            self._residency.check(found, self._pinned(besides=found))
            self._start_loading(found)
        await self._residency.wait(found, len(content), caller)

    # Starting, watching, stopping.

    async def load_all(self) -> None:
        """Starts to load every model; returns once the default model answers, or cannot.

        Raises:
            OperatorError: the repository cannot be read.
        """
        try:
            await self._refresh()
        except OSError as error:
            raise OperatorError(
                f"Cannot read the model repository: {error.strerror}: {error.filename}."
            ) from None
        while not self.is_ready:
            loading = [version.loading for version in self._of(self._default) if version.loading]
            if not (unfinished := [task for task in loading if not task.done()]):
                return
            await asyncio.wait(unfinished, return_when=asyncio.FIRST_COMPLETED)

    async def watch(self) -> None:
        """Follows changes of the repository and reloads broken models, until cancelled.

        Whatever a file in the repository does, the watch goes on: the error is logged, and the
        models stay as they are until the next look.
        """
        logged = ""
        while True:
            await asyncio.sleep(self._scan_interval_s)
            try:
                await self._refresh()
            except Exception as error:
                if str(error) != logged:
                    log.warning("the model repository cannot be read", exc_info=error)
                logged = str(error)
            else:
                logged = ""
            for version in list(self._versions.values()):
                if version.serving and version.serving.model.batcher.is_broken:
                    self.reload(version.name, version.number)

    async def close(self) -> None:
        """Waits for requests in flight and stops every model.

        A model whose call hangs is left after `close_within_s`; its threads do not keep the process
        alive.
        """
        await self._later.close()
        for version in self._versions.values():
            self._release(version)
        await self._tasks.wait(self._close_within_s)
        if self._tasks.names:
            log.error("models do not stop, so they are left", tasks=self._tasks.names)
        await self._tasks.close()

    # Orders.

    async def load(self, name: str, version: int | None) -> ModelStatus:
        """Loads one version, None for the newest; returns once it is READY.

        A caller who is cancelled does not stop the load.

        Raises:
            ModelNotFound: the repository does not hold the version.
            ModelFailed: the version cannot be loaded, or does not fit into memory.
            DependencyDown: the repository cannot be read or written.
        """
        await self.refresh()
        number = self._newest(name) if version is None else version
        if number is None or (name, number) not in self._versions:
            raise not_found(name, version)
        found = self._versions[name, number]
        if found.manifest is None:
            raise ModelFailed(found.message)
        if found.state in STOPPED:
            self._residency.check(found, self._pinned(besides=found))
        if found.state is ModelState.UNLOADED:
            await self._write(name, lambda: self._repository.mark_unloaded(name, number, False))
        if found.state in STOPPED:  # still, after the write
            self._start_loading(found)
        if found.loading:
            await asyncio.wait([found.loading])
        if found.serving is None:
            raise ModelFailed(found.message or f"the model '{name}' was unloaded meanwhile")
        return self.status(name, number)

    async def unload(self, name: str, version: int | str) -> ModelStatus:
        """Unloads one version; returns once its requests are answered and its memory is free.

        Raises:
            ModelNotFound: there is no such version.
            ModelInUse: an alias points to it, or the default model has no other READY version.
            DependencyDown: the repository cannot be read or written.
        """
        await self.refresh()
        number = self.status(name, version).ref.version
        found = self._versions[name, number]
        if use := self._use_of(found):
            raise ModelInUse(use)
        await self._write(name, lambda: self._repository.mark_unloaded(name, number, True))
        ending = self._release(found, ModelState.UNLOADED)
        status = self.status(name, number)
        if ending:
            await asyncio.shield(ending)
        return status

    async def set_alias(
        self, name: str, alias: str, version: int | None, canary_percent: float
    ) -> ModelStatus:
        """Points an alias to a version, or removes it.

        Returns:
            The version; without `version` the one that answers requests without a version.

        Raises:
            ModelNotFound: there is no such model or version.
            ModelFailed: the version is not READY.
            PromotionRefused: the model's promotion policy does not allow it.
            DependencyDown: the repository cannot be read or written.
        """
        await self.refresh()
        status = self.status(name, version)
        if version is not None and status.state is ModelState.STANDBY:
            status = await self.load(name, version)
        if version is not None and status.state is not ModelState.READY:
            raise ModelFailed(
                f"version {version} of model '{name}' does not answer: it is {status.state.value}"
            )
        await self._write(
            name, lambda: self._repository.change_alias(name, alias, version, canary_percent)
        )
        return self.status(name, version)

    def reload(self, name: str, version: int) -> None:
        """Releases a READY version and loads it again; call it on the event loop."""
        found = self._versions.get((name, version))
        if found and found.serving:
            self._release(found)
            self._start_loading(found)

    async def refresh(self) -> None:
        """Looks into the repository once, and starts to load what is new.

        Raises:
            DependencyDown: the repository cannot be read.
        """
        try:
            await self._refresh()
        except OSError as error:
            log.warning("the model repository cannot be read", error=str(error))
            raise DependencyDown("the model repository cannot be read") from None

    async def _write(self, name: str, change: Callable[[], Aliases]) -> None:
        async with self._refreshing:
            try:
                aliases = await asyncio.to_thread(change)
            except OperatorError as error:
                log.warning("the aliases cannot be changed", name=name, error=str(error))
                raise DependencyDown("the model repository cannot be written to") from None
            self._routing.replace(name, aliases)
            self._update_routing()

    # Following the repository.

    async def _refresh(self) -> None:
        async with self._refreshing:
            found, aliases = await asyncio.to_thread(
                lambda: (self._repository.scan(), self._repository.aliases())
            )
            self._routing.read(aliases)
            self._log_passed_over()
            self._has_looked = True
            self._follow({(f.name, f.version): f for f in found})
            self._update_routing()

    def _log_passed_over(self) -> None:
        """Logs what is new among the things that are no models, not all of them at each scan."""
        passed_over = dict(self._repository.passed_over)
        for path, reason in passed_over.items():
            if self._passed_over.get(path) != reason:
                log.warning(
                    "passed over in the model repository", path=ascii(str(path)), reason=reason
                )
        self._passed_over = passed_over

    def _follow(self, found: dict[Key, Found]) -> None:
        versions = self._versions
        # Those that stay in memory first: the others get the memory that is left.
        for key in sorted(found, key=lambda key: not self._comes_first(*key)):
            new = found[key]
            if key in versions and versions[key].found.stamp != new.stamp:
                self._release(versions.pop(key))
            if key not in versions:
                self._add(key, new)
        for key in [key for key in versions if key not in found]:
            successors = [versions.get(other) for other in found if other[0] == key[0]]
            # A removed version answers until its successor does.
            if not any(other and other.state is ModelState.LOADING for other in successors):
                self._release(versions.pop(key))
        self._follow_aliases()

    def _follow_aliases(self) -> None:
        """Loads and unloads versions as the alias files say."""
        for (name, number), version in self._versions.items():
            if version.manifest is None:
                continue
            is_wanted = number not in self._routing.wanted(name).unloaded
            if is_wanted and version.state is ModelState.UNLOADED:
                self._place(version)
            elif version.state is ModelState.STANDBY and self._is_pinned(version):
                self._start_loading(version)
            elif not (is_wanted or version.state is ModelState.UNLOADED or self._use_of(version)):
                self._release(version, ModelState.UNLOADED)

    def _add(self, key: Key, found: Found) -> None:
        try:
            manifest = manifest_of(found)
        except OperatorError as error:
            log.warning("a model has no usable manifest", reason=str(error), **_names(found))
            # Clients see this message, so it omits the path.
            reason = f"The manifest of version {found.version} cannot be used; the log says why."
            self._versions[key] = ModelVersion(found, None, ModelState.FAILED, reason)
            return
        version = self._versions[key] = ModelVersion(found, manifest)
        if version.number in self._routing.wanted(version.name).unloaded:
            version.state = ModelState.UNLOADED
        else:
            self._place(version)

    # Memory.

    def _place(self, version: ModelVersion) -> None:
        """Loads a version now if it stays in memory or fits; otherwise on demand.

        What answers only on request is loaded later, or as soon as a request asks for it.
        """
        is_on_request = self._is_on_request(version)
        if not is_on_request and (self._is_pinned(version) or self._fits_now(version)):
            self._start_loading(version)
            return
        version.state, version.is_on_demand = ModelState.STANDBY, True
        if is_on_request:
            name = f"later load of {version.name} {version.number}"
            self._later.start(self._load_later(version), name)

    async def _load_later(self, version: ModelVersion) -> None:
        await asyncio.sleep(self._later_s)
        # It delays no other version.
        while unfinished := self._unfinished_loads():
            await asyncio.wait(unfinished)
        is_there = self._versions.get((version.name, version.number)) is version
        if is_there and version.state is ModelState.STANDBY and self._fits_now(version):
            self._start_loading(version, niceness=LATER_NICENESS)

    def _unfinished_loads(self) -> list[asyncio.Task[None]]:
        loads = [version.loading for version in self._versions.values() if version.loading]
        return [load for load in loads if not load.done()]

    def _fits_now(self, version: ModelVersion) -> bool:
        others = [other for other in self._versions.values() if other is not version]
        return self._residency.fits_now(version, others)

    async def _release_others(self, version: ModelVersion) -> None:
        """Releases the versions that were used least recently, until another one fits."""
        pinned = self._pinned(besides=version)
        others = [v for v in self._versions.values() if v is not version and v not in pinned]
        released = self._residency.to_release(version, pinned, others)
        endings = [self._release(other, ModelState.STANDBY) for other in released]
        if unfinished := [ending for ending in endings if ending]:
            await asyncio.wait(unfinished, timeout=MAKE_WAY_WITHIN_S)
        if not self._residency.fits(version, pinned):
            log.warning("the models that stay loaded exceed the bound", **_names(version.found))

    # Loading.

    def _start_loading(self, version: ModelVersion, niceness: int = 0) -> None:
        # Whoever asks for what was in STANDBY waits for it, whatever made it load.
        version.is_on_demand = version.state is ModelState.STANDBY
        version.state, version.message = ModelState.LOADING, ""
        version.loading = self._tasks.start(
            self._load(version, niceness), f"load of {version.name} {version.number}"
        )

    async def _load(self, version: ModelVersion, niceness: int) -> None:
        names, manifest = _names(version.found), version.manifest
        assert manifest is not None
        async with self._loading:
            await self._release_others(version)
            log.info("loading a model", digest=manifest.digest, **names)
            try:
                model = await self._loader.load(version.found.folder, manifest, niceness)
            except OperatorError as error:
                version.state, version.message = ModelState.FAILED, str(error)
                log.warning("a model cannot be loaded", reason=str(error), **names)
            except Exception:
                version.state, version.message = ModelState.FAILED, "The server's log says why."
                log.exception("a bug while a model was loaded", **names)
            else:
                version.serving, version.state = Serving(model), ModelState.READY
                version.last_used_s = time.monotonic()
                runtime = model.runtime
                log.info("a model is ready", runtime=runtime.name, device=runtime.device, **names)
        version.is_on_demand = False
        self._update_routing()

    def _release(
        self, version: ModelVersion, state: ModelState = ModelState.LOADING
    ) -> asyncio.Task[None] | None:
        """Stops a version; returns a task that ends once its last request is answered."""
        log.info("releasing a model", **_names(version.found))
        if version.loading:
            version.loading.cancel()
        serving, version.serving, version.loading = version.serving, None, None
        version.state, version.message = state, ""
        version.is_on_demand = state is ModelState.STANDBY
        self._update_routing()
        if serving is None:
            return None
        return self._tasks.start(_end(serving), f"end of {version.name} {version.number}")


async def _end(serving: Serving) -> None:
    """Ends a model that nobody will use any more, and gives its memory back to the system."""
    await serving.end()
    del serving
    await asyncio.to_thread(trim_heap)


def _names(found: Found) -> dict[str, str | int]:
    return {"name": found.name, "version": found.version}
