"""Which versions of which models there are, and which of them answers a request."""

import time
from collections import defaultdict
from contextlib import AbstractContextManager

from image_categorizer_server.domain.model import ModelState, ModelStatus
from image_categorizer_server.errors import ModelFailing, ModelLoading, ModelNotFound
from image_categorizer_server.inference.models.category_tree import CategoryTree
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.inference.models.readiness import why_silent
from image_categorizer_server.inference.models.routing import Routing
from image_categorizer_server.inference.models.status import status_of
from image_categorizer_server.inference.models.version import ModelVersion, Serving, not_found

Key = tuple[str, int]
"""Name and version number."""


class Catalog:
    """The versions of all models.  `Registry` fills it."""

    def __init__(self, default: str, retry_after_s: float) -> None:
        """Starts without models.

        Args:
            default: the model that answers requests without a model.
            retry_after_s: when callers of a model that is LOADING are to try again.
        """
        self._default = default
        self._retry_after_s = retry_after_s
        self._versions: dict[Key, ModelVersion] = {}
        self._routing = Routing()
        self._has_looked = False
        """Whether the repository was read once."""
        self._expected: dict[Key, str] = {}
        """Versions that are being made, and their aliases."""

    @property
    def default(self) -> str:
        """The model that answers requests without a model."""
        return self._default

    @property
    def is_ready(self) -> bool:
        """Whether the default model answers."""
        return self.answers(self._default)

    def check_ready(self) -> None:
        """Passes if the default model answers.

        Raises:
            ModelLoading: it is being loaded, or looked for.
            ModelFailing: it cannot answer; the message says what to do.
        """
        if self.is_ready:
            return
        name = self._default
        versions = self._of(name)
        if not self._has_looked or any(v.state is ModelState.LOADING for v in versions):
            raise ModelLoading("the models are being loaded", retry_after_s=self._retry_after_s)
        has_aliases = name not in self._routing.unreadable
        raise ModelFailing(why_silent(name, versions, has_aliases))

    def answers(self, name: str) -> bool:
        """Returns whether the model answers requests without a version."""
        return self._routing.main_version(name) is not None

    def names(self) -> set[str]:
        """Returns the names of all models."""
        return {name for name, _ in self._versions}

    def longest_busy_s(self) -> float:
        """Returns for how many seconds the slowest model call, or decode, has been running."""
        serving = (version.serving for version in self._versions.values())
        busy_s = (used.model.batcher.longest_busy_s() for used in serving if used)
        return max(busy_s, default=0.0)

    def tree(self, name: str, version: int | str | None) -> CategoryTree:
        """Returns the categories of the version that answers, also of one in STANDBY.

        Raises:
            ModelNotFound, ModelLoading: see `get`.
        """
        name = name or self._default
        number = self._routing.version_for(name, version, b"")
        found = self._versions.get((name, number)) if number else None
        if found and found.is_on_demand and found.manifest:
            return CategoryTree(found.manifest.categories, found.manifest.activation)
        return self.get(name, version).tree

    def using(
        self, name: str, version: int | str | None, content: bytes = b""
    ) -> AbstractContextManager[LoadedModel]:
        """Enters a block with the model that answers, and keeps it running; see `get`."""
        return self._serving(name, version, content).used()

    def get(self, name: str, version: int | str | None, content: bytes = b"") -> LoadedModel:
        """Returns the model that answers.  It may stop as soon as the caller awaits; see `using`.

        Args:
            name: the model; empty for the default.
            version: a number or an alias; None for `stable` and `canary`, or the newest READY one.
            content: the encoded image, which decides whether the canary answers.

        Raises:
            ModelNotFound: there is no such model or version, or it could not be loaded.
            ModelLoading: the model is being loaded, or made.
        """
        return self._serving(name, version, content).model

    def _serving(self, name: str, version: int | str | None, content: bytes) -> Serving:
        name = name or self._default
        number = self._routing.version_for(name, version, content)
        found = self._versions.get((name, number)) if number else None
        if found and found.serving:
            found.last_used_s = time.monotonic()
            return found.serving
        candidates = [found] if found else self._of(name) if version is None else []
        loading = ModelState.LOADING, ModelState.STANDBY
        if any(candidate.state in loading for candidate in candidates):
            raise ModelLoading(
                f"the model '{name}' is being loaded", retry_after_s=self._retry_after_s
            )
        if found:
            raise ModelNotFound(
                f"version {number} of model '{name}' does not answer: it is {found.state.value}"
            )
        if version is None and candidates and name in self._routing.unreadable:
            raise ModelNotFound(f"the aliases of model '{name}' cannot be read")
        if self._is_expected(name, version):
            raise ModelLoading(
                f"version {version} of model '{name}' is being made for this machine, once",
                retry_after_s=self._retry_after_s,
            )
        raise not_found(name, version)

    def expect(self, name: str, number: int, alias: str) -> None:
        """Notes that a version is being made: until it is there, who asks for it is to try again.

        Args:
            name: the model.
            number: the version.
            alias: the one that it will have.
        """
        self._expected[name, number] = alias

    def expect_no_more(self, name: str, number: int) -> None:
        """Notes that a version is made, or cannot be."""
        self._expected.pop((name, number), None)

    def _is_expected(self, name: str, version: int | str | None) -> bool:
        return any(
            expected == name and version in (number, alias) and (name, number) not in self._versions
            for (expected, number), alias in self._expected.items()
        )

    def _of(self, name: str) -> list[ModelVersion]:
        return [version for (n, _), version in self._versions.items() if n == name]

    def _newest(self, name: str) -> int | None:
        """Returns the newest version that may answer requests without a version."""
        return self._routing.wanted(name).newest([found.number for found in self._of(name)])

    def statuses(self) -> list[ModelStatus]:
        """Returns all versions, by name and number."""
        return [self._status(self._versions[key]) for key in sorted(self._versions)]

    def status(self, name: str, version: int | str | None) -> ModelStatus:
        """Returns one version.

        Args:
            name: the model.
            version: a number or an alias; None for the one that answers, or the newest if none
                does.

        Raises:
            ModelNotFound: there is no such model or version.
        """
        if version is None:
            number = self._routing.main_version(name) or self._newest(name)
        else:
            number = self._routing.version_for(name, version, b"")
        if number is None or (name, number) not in self._versions:
            raise not_found(name, version)
        return self._status(self._versions[name, number])

    def _status(self, version: ModelVersion) -> ModelStatus:
        name, number = version.name, version.number
        is_default = name == self._default and self._routing.main_version(name) == number
        return status_of(version, self._routing.in_force(name), is_default)

    def _use_of(self, version: ModelVersion) -> str:
        """Returns a sentence on what needs the version; empty if nothing does."""
        name, number = version.name, version.number
        if aliases := self._routing.pointing_to(name, number):
            return f"the alias '{aliases[0]}' points to version {number}; move it first"
        others = {v.number for v in self._of(name) if v.serving} - {number}
        if name == self._default and self._routing.wanted(name).newest(others) is None:
            return f"version {number} is all that the default model '{name}' has"
        return ""

    def _is_pinned(self, version: ModelVersion) -> bool:
        """Returns whether a version stays in memory."""
        name, number = version.name, version.number
        main = self._routing.main_version(name) or self._newest(name)
        return self._is_aliased(name, number) or (name == self._default and number == main)

    def _comes_first(self, name: str, number: int) -> bool:
        """Returns whether a new version is likely to stay in memory."""
        is_on_request = number in self._routing.wanted(name).on_request
        return self._is_aliased(name, number) or (name == self._default and not is_on_request)

    def _is_aliased(self, name: str, number: int) -> bool:
        """Returns whether an alias keeps a version in memory.  Those that ship do not."""
        is_on_request = number in self._routing.wanted(name).on_request
        return not is_on_request and bool(self._routing.pointing_to(name, number))

    def _is_on_request(self, version: ModelVersion) -> bool:
        """Returns whether a version answers only requests that name it."""
        return version.number in self._routing.wanted(version.name).on_request

    def _pinned(self, besides: ModelVersion | None = None) -> list[ModelVersion]:
        """Returns the versions that stay in memory, and those that will."""
        states = ModelState.READY, ModelState.LOADING, ModelState.STANDBY
        return [
            version
            for version in self._versions.values()
            if version is not besides and version.state in states and self._is_pinned(version)
        ]

    def _update_routing(self) -> None:
        ready: dict[str, set[int]] = defaultdict(set)
        for (name, number), version in self._versions.items():
            ready[name] |= {number} if version.answers else set()
        self._routing.update(ready)
