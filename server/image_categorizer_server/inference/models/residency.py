"""Which models are in memory where there is a bound, and how requests wait for the others.

Versions that an alias points to stay in memory, and so does the one that answers for the default
model.  The others share what is left: those that were used least recently are in STANDBY, until a
request asks for them.  So are, with and without a bound, those that answer only on request until
they are loaded.
"""

import asyncio
import time
from collections.abc import Collection

from image_categorizer_server.domain.classification import Caller
from image_categorizer_server.domain.model import ModelState
from image_categorizer_server.errors import DeadlineExceeded, ModelFailed
from image_categorizer_server.inference.engine.admission import Bounds, Load, check_capacity
from image_categorizer_server.inference.models.manifest import Manifest
from image_categorizer_server.inference.models.version import ModelVersion

# A runtime keeps the weights, and copies in the order in which its kernels read them: one for calls
# among others, one for calls while no other image waits.  docs/models.md has the measurements.
COPIES = 3
FP32_BYTES = 4
WEIGHTS = ".safetensors"
RETRY_S = 1.0
"""When to try again if too many images wait for a model to load."""


class Residency:
    """A bound on the memory of all models."""

    def __init__(self, max_bytes: int, waiting: Bounds) -> None:
        """Configures the bound.

        Args:
            max_bytes: of all models in memory; 0 for no bound.
            waiting: on the images that wait for one model to load.
        """
        self._max_bytes = max_bytes
        self._waiting = waiting

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound."""
        return self._max_bytes > 0

    def fits_now(self, new: ModelVersion, others: Collection[ModelVersion]) -> bool:
        """Returns whether a version fits into memory beside those that are in it, or will be."""
        return self.fits(new, [v for v in others if v.serving or v.state is ModelState.LOADING])

    def fits(self, new: ModelVersion, pinned: Collection[ModelVersion]) -> bool:
        """Returns whether a version fits into memory beside those that stay in it."""
        return not self.is_bounded or self._missing_bytes(new, pinned) <= 0

    def check(self, new: ModelVersion, pinned: Collection[ModelVersion]) -> None:
        """Passes a version that fits into memory, if need be once others are released.

        Args:
            new: the version.
            pinned: the others that stay in memory.

        Raises:
            ModelFailed: it does not fit.
        """
        if not self.fits(new, pinned):
            left_bytes = max(0, self._max_bytes - sum(map(resident_bytes, pinned)))
            raise ModelFailed(
                f"version {new.number} of model '{new.name}' takes {resident_bytes(new):,} bytes "
                f"of memory, and CATEGORIZER_MODELS__MAX_RESIDENT_BYTES leaves {left_bytes:,} "
                "beside the models that stay loaded"
            )

    def to_release(
        self,
        new: ModelVersion,
        pinned: Collection[ModelVersion],
        others: Collection[ModelVersion],
    ) -> list[ModelVersion]:
        """Returns the versions to release before another is loaded, least recently used first.

        Args:
            new: the version to load.
            pinned: those that stay in memory.
            others: the rest.
        """
        released: list[ModelVersion] = []
        present = [version for version in others if version.serving]
        if self.is_bounded:
            missing_bytes = self._missing_bytes(new, [*pinned, *present])
            for version in sorted(present, key=lambda found: found.last_used_s):
                if missing_bytes <= 0:
                    break
                released.append(version)
                missing_bytes -= resident_bytes(version)
        return released

    def _missing_bytes(self, new: ModelVersion, present: Collection[ModelVersion]) -> int:
        return sum(map(resident_bytes, [new, *present])) - self._max_bytes

    async def wait(self, version: ModelVersion, size_bytes: int, caller: Caller) -> None:
        """Returns once a version that is LOADING has loaded, or cannot be loaded.

        Args:
            version: what the caller waits for.
            size_bytes: of the caller's encoded image.
            caller: lane and deadline.

        Raises:
            Overloaded: too many images wait for the version already.
            DeadlineExceeded: the deadline passed first.
        """
        assert version.loading is not None
        load = Load(version.waiting_images, version.waiting_bytes)
        check_capacity(self._waiting, load, caller.lane, size_bytes, RETRY_S)
        version.waiting_images += 1
        version.waiting_bytes += size_bytes
        try:
            remaining_s = max(0.0, caller.deadline_s - time.monotonic())
            done, _ = await asyncio.wait([version.loading], timeout=remaining_s)
        finally:
            version.waiting_images -= 1
            version.waiting_bytes -= size_bytes
        if not done:
            raise DeadlineExceeded(
                f"the model '{version.name}' was still being loaded at the deadline"
            )


def resident_bytes(version: ModelVersion) -> int:
    """Returns about how much memory a version takes while it is loaded."""
    return memory_of(version.manifest) if version.manifest else 0


def memory_of(manifest: Manifest) -> int:
    """Returns about how much memory a model takes while it is loaded, in bytes."""
    files = manifest.files.items()
    if manifest.format == "onnx":  # what else it has is for GPUs
        return COPIES * sum(file.bytes for name, file in files if not name.endswith(WEIGHTS))
    shrunk = FP32_BYTES if manifest.precision == "int8" else 1
    return COPIES * sum(file.bytes for _, file in files) // shrunk
