"""Who uses a loaded model, and which one answers: what requests meet while versions come and go."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from image_categorizer_server.inference.models.aliases import (
    CANARY,
    STABLE,
    Aliases,
    goes_to_canary,
)
from image_categorizer_server.inference.models.loader import LoadedModel


class Serving:
    """A loaded model and how many use it; it ends when the last has left."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def used(self) -> Iterator[LoadedModel]:
        """Yields the model, which answers as long as the block runs."""
        self._users += 1
        self._unused.clear()
        try:
            yield self.model
        finally:
            self._users -= 1
            if self._users == 0:
                self._unused.set()

    async def end(self) -> None:
        """Waits until nobody uses the model, then stops its runners; nobody may begin meanwhile."""
        await self._unused.wait()
        await self.model.batcher.stop()


@dataclass(frozen=True, slots=True)
class Route:
    """Which versions of one model answer the requests that name no version."""

    version: int | None
    """None where none is loaded."""
    canary: int | None = None
    """Answers `canary_percent` of them; None where it takes no share."""
    canary_percent: float = 0.0

    def version_for(self, content: bytes) -> int | None:
        """Returns the version that answers for one encoded image."""
        if self.canary is not None and goes_to_canary(content, self.canary_percent):
            return self.canary
        return self.version


def route_of(aliases: Aliases, ready: set[int]) -> Route:
    """Returns where the requests without a version go, given which versions answer.

    To `stable`; without that alias to the newest, which may be the canary only where there is no
    other.
    """
    canary = aliases.versions.get(CANARY)
    stable = aliases.versions.get(STABLE)
    if stable is None:
        stable = max(ready - {canary}, default=max(ready, default=None))
    version = stable if stable in ready else None
    if canary in ready and canary != version and aliases.canary_percent > 0:
        return Route(version, canary, aliases.canary_percent)
    return Route(version)


def in_force(wanted: Aliases, current: Aliases, ready: set[int]) -> Aliases:
    """Returns the aliases to go by: as wanted, but none leaves what answers before its new version.

    While none answers, as after a start, all are as wanted: no other version steps in.

    Args:
        wanted: as the repository has them.
        current: those gone by until now.
        ready: the versions that answer.
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
    kept = versions.get(CANARY) != wanted.versions.get(CANARY)
    percent = (current if kept else wanted).canary_percent
    return Aliases(versions=versions, canary_percent=percent)
