"""The alias file of a model: names such as `stable` that point to one version.

`<root>/<model>/aliases.json` in the repository also lists the versions that must not be loaded.
Restarts, other servers and the command line all read this file.  It is replaced by one rename, so
readers never see half of it.
"""

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from image_categorizer_server.errors import OperatorError

ALIASES_FILE = "aliases.json"
LOCK_FILE = ".aliases.lock"
ALIAS = re.compile(r"[a-z][a-z0-9-]{0,31}")
STABLE, CANARY = "stable", "canary"
HASHES = 2**64
AliasName = Annotated[str, Field(pattern=f"^{ALIAS.pattern}$")]


class Aliases(BaseModel):
    """The aliases of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    versions: Mapping[AliasName, Annotated[int, Field(ge=1)]] = {}
    """The version that each alias points to."""
    canary_percent: float = Field(0.0, ge=0, le=100)
    """Percentage of the requests without a version that `canary` answers."""
    unloaded: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Versions that must not be loaded."""
    on_request: tuple[int, ...] = Field((), exclude=True)
    """Versions that answer only requests that name them, never as the newest.  They ship with the
    program, so the file does not list them."""

    def newest(self, versions: Collection[int]) -> int | None:
        """Returns the newest of these versions that may answer requests without a version."""
        return max(set(versions) - set(self.on_request), default=None)

    def with_shipped(self, shipped: Mapping[str, int]) -> "Aliases":
        """Returns a copy with aliases of versions that ship with the program.

        Aliases that users set come first.
        """
        if not shipped:
            return self
        versions = dict(sorted({**shipped, **self.versions}.items()))
        on_request = tuple(sorted(set(shipped.values())))
        return self.model_copy(update={"versions": versions, "on_request": on_request})

    def with_alias(self, alias: str, version: int | None, canary_percent: float) -> "Aliases":
        """Returns a copy with one alias moved, or removed if `version` is None.

        A version that an alias points to is loaded again if it was unloaded.
        """
        versions = {name: v for name, v in self.versions.items() if name != alias}
        if version is not None:
            versions[alias] = version
        percent = self.canary_percent
        if alias == CANARY:
            percent = canary_percent if version is not None else 0.0
        return Aliases(
            versions=dict(sorted(versions.items())),
            canary_percent=percent,
            unloaded=tuple(v for v in self.unloaded if v != version),
        )

    def with_unloaded(self, version: int, is_unloaded: bool) -> "Aliases":
        """Returns a copy in which one version is unloaded, or loaded again."""
        unloaded = set(self.unloaded) - {version} | ({version} if is_unloaded else set())
        return self.model_copy(update={"unloaded": tuple(sorted(unloaded))})

    def pointing_to(self, version: int) -> tuple[str, ...]:
        """Returns the aliases of a version, sorted."""
        return tuple(sorted(name for name, v in self.versions.items() if v == version))


def read_aliases(folder: Path) -> Aliases:
    """Returns the aliases of the model in the folder; none if it has no alias file.

    Raises:
        OperatorError: the file cannot be read or is malformed.
    """
    file = folder / ALIASES_FILE
    try:
        return Aliases.model_validate_json(file.read_text())
    except FileNotFoundError:
        return Aliases()
    except OSError as error:
        raise OperatorError(f"Cannot read {file}: {error.strerror}.") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise OperatorError(
            f"{file} is malformed ({str(error).splitlines()[0]}); delete it and set the aliases "
            "again with `image-categorizer models alias`."
        ) from None


def change_aliases(root: Path, model: str, change: Callable[[Aliases], Aliases]) -> Aliases:
    """Changes the aliases of a model and returns the new ones.

    Several processes may change aliases at once: a file lock lets one at a time; the others block.

    Raises:
        OperatorError: the repository cannot be written to, or the file is malformed.
    """
    folder = root / model
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(root):
            aliases = change(read_aliases(folder))
            replace_file(folder / ALIASES_FILE, aliases.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise OperatorError(
            f"Cannot write to the model repository {root}: {error.strerror}."
        ) from None
    return aliases


def is_canary_image(content: bytes, percent: float) -> bool:
    """Returns whether the canary answers for an image.

    The image's bytes alone decide, so the same image always gets the same version.  An image in one
    share is also in every larger share.

    Args:
        content: the encoded image.
        percent: the canary's share, in [0, 100].
    """
    digest = hashlib.sha256(content, usedforsecurity=False).digest()
    return int.from_bytes(digest[:8]) < percent / 100 * HASHES


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keeps other processes from changing aliases and policies in a repository; blocks.

    Raises:
        OSError: the repository cannot be written to.
    """
    with (root / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace_file(file: Path, text: str) -> None:
    """Writes a file with one rename, so that readers never see half of it.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        Path(name).chmod(0o644)  # mkstemp makes 0600, but the server may run as another user
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
