"""Which versions of which models there are here, and which of them answers a request."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.domain.model import Localization, ModelState, ModelStatus
from image_categorizer_server.errors import ModelLoading, ModelNotFound, OperatorError
from image_categorizer_server.inference.models.aliases import CANARY, Aliases
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.models.repository import Found
from image_categorizer_server.inference.models.serving import Route, Serving, in_force, route_of
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
Key = tuple[str, int]
NO_ROUTE = Route(None)


@dataclass(slots=True)
class Entry:
    """One version of a model."""

    found: Found
    manifest: Manifest
    state: ModelState = ModelState.LOADING
    message: str = ""
    serving: Serving | None = field(default=None)
    """Set while READY."""
    loading: asyncio.Task[None] | None = field(default=None)
    """The latest attempt to load it."""


class Versions:
    """Every version by name and number, each model's aliases, and what follows from both."""

    def __init__(self, default: str, retry_after_s: float) -> None:
        """Starts empty.

        Args:
            default: the model that answers a request which names none.
            retry_after_s: what callers of a model that is LOADING are told.
        """
        self.default = default
        self.entries: dict[Key, Entry] = {}
        self.wanted: dict[str, Aliases] = {}
        """As the repository has them."""
        self.aliases: dict[str, Aliases] = {}
        """As they are gone by; see `in_force`."""
        self.unread: dict[str, str] = {}
        """Why the aliases of a model cannot be read."""
        self._retry_after_s = retry_after_s
        self._routes: dict[str, Route] = {}

    def names(self) -> set[str]:
        """Returns the names of all models."""
        return {name for name, _ in self.entries}

    def of(self, name: str) -> list[Entry]:
        """Returns all versions of a model."""
        return [entry for (n, _), entry in self.entries.items() if n == name]

    def follow(self, read: Mapping[str, Aliases | OperatorError]) -> None:
        """Takes over what the repository says; where it cannot be read all stays as it was."""
        wanted, unread = {}, {}
        for name, aliases in read.items():
            if isinstance(aliases, OperatorError):
                wanted[name], unread[name] = self.wanted_of(name), str(aliases)
                if self.unread.get(name) != unread[name]:
                    log.warning("aliases stay as they were", name=name, reason=unread[name])
            else:
                wanted[name] = aliases
        self.wanted, self.unread = wanted, unread

    def wanted_of(self, name: str) -> Aliases:
        """Returns the model's aliases as the repository has them."""
        return self.wanted.get(name, Aliases())

    def answers(self, name: str) -> bool:
        """Returns whether a request to the model that names no version would be answered."""
        return self._routes.get(name, NO_ROUTE).version is not None

    def longest_busy_s(self) -> float:
        """Returns for how long the slowest model call, or decode, has been under way."""
        serving = (entry.serving for entry in self.entries.values())
        busy_s = (used.model.batcher.longest_busy_s() for used in serving if used)
        return max(busy_s, default=0.0)

    def reroute(self) -> None:
        """Follows what has changed: which versions answer, where aliases point."""
        before = self.aliases
        self.aliases, self._routes = {}, {}
        for name in self.names():
            ready = {e.manifest.version for e in self.of(name) if e.serving}
            current = before.get(name, Aliases())
            aliases = in_force(self.wanted_of(name), current, ready)
            self.aliases[name] = aliases
            self._routes[name] = route_of(aliases, ready)
            if aliases != current:
                log.info("aliases", name=name, percent=aliases.canary_percent, **aliases.versions)

    def pointing_to(self, name: str, version: int) -> tuple[str, ...]:
        """Returns the aliases of a version, those that it is yet to get included."""
        held = (self.aliases.get(name, Aliases()), self.wanted_of(name))
        return tuple(sorted({alias for aliases in held for alias in aliases.pointing_to(version)}))

    def using(
        self, name: str, version: int | str | None, content: bytes = b""
    ) -> AbstractContextManager[LoadedModel]:
        """Gives the model that answers, and keeps it answering while the block runs; see `get`."""
        return self._serving(name, version, content).used()

    def get(self, name: str, version: int | str | None, content: bytes = b"") -> LoadedModel:
        """Returns the model that answers; it may end as soon as the caller awaits (see `using`).

        Args:
            name: the model; empty: the default.
            version: its number or alias; None: as `stable` and `canary` say, else the newest ready.
            content: the encoded image, from which follows whether the canary answers.

        Raises:
            ModelNotFound: there is none, or it could not be loaded.
            ModelLoading: it will be ready soon.
        """
        return self._serving(name, version, content).model

    def _serving(self, name: str, version: int | str | None, content: bytes) -> Serving:
        wanted = name or self.default
        number = self._number(wanted, version, content)
        entry = self.entries.get((wanted, number)) if number else None
        if entry and entry.serving:
            return entry.serving
        candidates = [entry] if entry else self.of(wanted) if version is None else []
        if any(candidate.state is ModelState.LOADING for candidate in candidates):
            raise ModelLoading(
                f"the model '{wanted}' is being loaded", retry_after_s=self._retry_after_s
            )
        if entry:
            raise ModelNotFound(
                f"version {number} of model '{wanted}' does not answer: it is {entry.state.value}"
            )
        raise not_found(wanted, version)

    def _number(self, name: str, version: int | str | None, content: bytes) -> int | None:
        if version is None:
            return self._routes.get(name, NO_ROUTE).version_for(content)
        if isinstance(version, int):
            return version
        return self.aliases.get(name, Aliases()).versions.get(version)

    def statuses(self) -> list[ModelStatus]:
        """Returns all versions, by name and number."""
        return [self._status(key) for key in sorted(self.entries)]

    def status(self, name: str, version: int | str | None) -> ModelStatus:
        """Returns one version; none named: the one that answers, or the newest where none does.

        Raises:
            ModelNotFound: there is none.
        """
        if version is None:
            number = self._routes.get(name, NO_ROUTE).version or max(
                (entry.manifest.version for entry in self.of(name)), default=None
            )
        else:
            number = self._number(name, version, b"")
        if number is None or (name, number) not in self.entries:
            raise not_found(name, version)
        return self._status((name, number))

    def _status(self, key: Key) -> ModelStatus:
        name, version = key
        entry = self.entries[key]
        manifest = entry.manifest
        runtime = entry.serving.model.runtime if entry.serving else None
        localizer = entry.serving.model.localizer if entry.serving else None
        aliases = self.aliases.get(name, Aliases())
        names = aliases.pointing_to(version)
        route = self._routes.get(name, NO_ROUTE)
        return ModelStatus(
            ref=ModelRef(name, version, manifest.digest),
            state=entry.state,
            state_message=entry.message,
            is_default=name == self.default and route.version == version,
            categories=manifest.domain_categories(),
            input_width_px=manifest.input.width_px,
            input_height_px=manifest.input.height_px,
            activation=manifest.activation,
            runtime=runtime.name if runtime else "",
            device=runtime.device if runtime else "",
            licence=manifest.licence,
            origin=manifest.origin,
            aliases=names,
            canary_percent=aliases.canary_percent if CANARY in names else 0.0,
            precision=runtime.precision if runtime else "",
            localization=localizer.localization if localizer else Localization.NONE,
        )


def not_found(name: str, version: int | str | None) -> ModelNotFound:
    """Returns the error that says what is missing."""
    if version is None:
        return ModelNotFound(f"there is no model '{name}'")
    if isinstance(version, int):
        return ModelNotFound(f"there is no version {version} of model '{name}'")
    return ModelNotFound(f"the model '{name}' has no alias '{version}'")
