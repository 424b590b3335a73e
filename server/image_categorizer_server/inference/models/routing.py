"""Routing: which version of a model answers a request that gives an alias, or no version.

The repository holds the aliases that users set.  A server follows them with a delay: an alias moves
to a new version only once that version is READY here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.aliases import (
    CANARY,
    STABLE,
    Aliases,
    is_canary_image,
)
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """The versions of one model that answer requests without a version."""

    version: int | None
    """None if no version is loaded."""
    canary: int | None = None
    """Answers `canary_percent` of the requests; None if `canary` has no share."""
    canary_percent: float = 0.0

    def version_for(self, content: bytes) -> int | None:
        """Returns the version that answers for an encoded image."""
        if self.canary is not None and is_canary_image(content, self.canary_percent):
            return self.canary
        return self.version


NO_ROUTE = Route(None)


class Routing:
    """The aliases of all models, and the routes that follow from them."""

    def __init__(self) -> None:
        self._wanted: dict[str, Aliases] = {}
        self._in_force: dict[str, Aliases] = {}
        self._routes: dict[str, Route] = {}
        self._unreadable: dict[str, str] = {}
        self._ever_read: set[str] = set()

    @property
    def unreadable(self) -> Mapping[str, str]:
        """The models whose aliases cannot be read, and why."""
        return self._unreadable

    def read(self, aliases: Mapping[str, Aliases | OperatorError]) -> None:
        """Takes the aliases in the repository; a model whose aliases cannot be read keeps its own.

        Call `update` afterwards.
        """
        wanted, unreadable = {}, {}
        for name, found in aliases.items():
            if isinstance(found, OperatorError):
                wanted[name], unreadable[name] = self.wanted(name), str(found)
                if self._unreadable.get(name) != unreadable[name]:
                    log.warning("aliases cannot be read", name=name, reason=unreadable[name])
            else:
                wanted[name] = found
                self._ever_read.add(name)
        self._wanted, self._unreadable = wanted, unreadable

    def replace(self, name: str, aliases: Aliases) -> None:
        """Takes the aliases of one model; call `update` afterwards."""
        self._wanted[name] = aliases

    def update(self, ready: Mapping[str, set[int]]) -> None:
        """Computes the aliases in force and the routes.

        Args:
            ready: the READY versions of every model, also of those without any.
        """
        before = self._in_force
        self._in_force, self._routes = {}, {}
        for name, versions in ready.items():
            current = before.get(name, Aliases())
            aliases = in_force(self.wanted(name), current, versions)
            self._in_force[name] = aliases
            # Which version answers is unknown until the aliases of the model were read once.
            is_known = name not in self._unreadable or name in self._ever_read
            self._routes[name] = route_of(aliases, versions) if is_known else NO_ROUTE
            if aliases != current:
                log.info("aliases", name=name, percent=aliases.canary_percent, **aliases.versions)

    def wanted(self, name: str) -> Aliases:
        """Returns the aliases of a model in the repository."""
        return self._wanted.get(name, Aliases())

    def in_force(self, name: str) -> Aliases:
        """Returns the aliases that this server follows now."""
        return self._in_force.get(name, Aliases())

    def pointing_to(self, name: str, version: int) -> tuple[str, ...]:
        """Returns the aliases of a version, in the repository or in force."""
        both = (self.in_force(name), self.wanted(name))
        return tuple(sorted({alias for aliases in both for alias in aliases.pointing_to(version)}))

    def version_for(self, name: str, version: int | str | None, content: bytes) -> int | None:
        """Returns the number of the version that answers; None if there is none.

        Args:
            name: the model.
            version: a number, an alias, or None for the route of the model.
            content: the encoded image, which decides whether the canary answers.
        """
        if version is None:
            return self._routes.get(name, NO_ROUTE).version_for(content)
        if isinstance(version, int):
            return version
        # The version of an alias that is not in force yet explains why there is no answer.
        followed, wanted = self.in_force(name).versions, self.wanted(name).versions
        return followed.get(version) or wanted.get(version)

    def main_version(self, name: str) -> int | None:
        """Returns the version that answers requests without a version, the canary's share aside."""
        return self._routes.get(name, NO_ROUTE).version


def route_of(aliases: Aliases, ready: set[int]) -> Route:
    """Returns the route of a model.

    Requests go to `stable`.  Without that alias they go to the newest version; the canary counts as
    the newest only if there is no other.  Versions that answer only on request never do.

    Args:
        aliases: the aliases in force.
        ready: the READY versions.
    """
    canary = aliases.versions.get(CANARY)
    stable = aliases.versions.get(STABLE)
    if stable is None:
        stable = aliases.newest(ready - {canary}) or aliases.newest(ready)
    version = stable if stable in ready else None
    if canary in ready and canary != version and aliases.canary_percent > 0:
        return Route(version, canary, aliases.canary_percent)
    return Route(version)


def in_force(wanted: Aliases, current: Aliases, ready: set[int]) -> Aliases:
    """Returns the aliases to follow: an alias keeps its version until the wanted one is READY.

    While no version is READY, as after a start, all aliases are as wanted, so that no other version
    takes over.

    Args:
        wanted: the aliases in the repository.
        current: the aliases followed until now.
        ready: the READY versions.
    """
    versions = dict(wanted.versions)
    for alias, version in wanted.versions.items():
        before = current.versions.get(alias)
        if version in ready or not ready:
            continue
        if before in ready:
            versions[alias] = before
        elif before is None:
            del versions[alias]
    is_kept = versions.get(CANARY) != wanted.versions.get(CANARY)
    percent = (current if is_kept else wanted).canary_percent
    return Aliases(versions=versions, canary_percent=percent, on_request=wanted.on_request)
