"""One version of a model: its state, and the requests that use it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from image_categorizer_server.domain.model import ModelState
from image_categorizer_server.errors import ModelNotFound
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.models.repository import Found
from image_categorizer_server.quoting import quoted


class Serving:
    """A loaded model and the number of its users; it ends once the last user has left."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def used(self) -> Iterator[LoadedModel]:
        """Yields the model and keeps it running until the block ends."""
        self._users += 1
        self._unused.clear()
        try:
            yield self.model
        finally:
            self._users -= 1
            if self._users == 0:
                self._unused.set()

    async def end(self) -> None:
        """Waits for the last user, then stops the model.  No user may be added meanwhile."""
        await self._unused.wait()
        await self.model.batcher.stop()
        self.model.close()


@dataclass(slots=True)
class ModelVersion:
    """A version in the repository, and what the server does with it."""

    found: Found
    manifest: Manifest | None
    """None if it is malformed; the state is FAILED then."""
    state: ModelState = ModelState.LOADING
    message: str = ""
    """Why the state is FAILED."""
    serving: Serving | None = None
    """Set while READY."""
    loading: asyncio.Task[None] | None = None
    """The latest attempt to load it."""
    is_on_demand: bool = False
    """Whether it is in STANDBY, or was before it was LOADING: requests wait for it."""
    last_used_s: float = 0.0
    """When a request asked for it last, on the clock of `time.monotonic`."""
    waiting_images: int = 0
    """Number of images that wait until it is loaded."""
    waiting_bytes: int = 0
    """Their size, encoded."""

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.found.name

    @property
    def number(self) -> int:
        """The version number."""
        return self.found.version

    @property
    def answers(self) -> bool:
        """Whether it answers requests, if need be after it was loaded."""
        return self.serving is not None or self.is_on_demand


def not_found(name: str, version: int | str | None) -> ModelNotFound:
    """Returns the error for a model, a version or an alias that does not exist."""
    if version is None:
        return ModelNotFound(f"there is no model {quoted(name)}")
    if isinstance(version, int):
        return ModelNotFound(f"there is no version {version} of model {quoted(name)}")
    return ModelNotFound(f"the model {quoted(name)} has no alias {quoted(str(version))}")
