"""The model repository on disk: `<root>/<name>/<version>/`.

A version never changes.  It appears by one rename and disappears by one rename, so a running server
never sees half of it.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from image_categorizer_server.errors import OperatorError, PromotionRefused
from image_categorizer_server.inference.models.aliases import (
    ALIASES_FILE,
    CANARY,
    STABLE,
    Aliases,
    change_aliases,
    read_aliases,
)
from image_categorizer_server.inference.models.manifest import (
    MANIFEST_FILE,
    NAME,
    Manifest,
    damage,
    read_manifest,
)
from image_categorizer_server.inference.models.promotion import (
    POLICY_FILE,
    Check,
    Policy,
    Promotion,
    read_promotion,
    record_check,
    write_policy,
)
from image_categorizer_server.inference.models.routing import route_of
from image_categorizer_server.quoting import quoted

HIDDEN = "."
# With more, a canary is what answers.
MAX_FREE_CANARY_PERCENT = 50
VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Found:
    """A model version on disk."""

    name: str
    version: int
    folder: Path
    is_packaged: bool
    """Whether it ships with the program; such a version cannot be removed."""
    stamp: int
    """Modification time of the manifest in nanoseconds; a change means another manifest."""


class Repository:
    """The folder `MODEL_PATH`, and the models that ship with the program."""

    def __init__(
        self,
        root: Path,
        shipped: Sequence[Path] = (),
        shipped_aliases: Mapping[str, Mapping[str, int]] = {},
    ) -> None:
        """Configures the repository.

        Args:
            root: the folder that models are added to.
            shipped: folders of models that ship with the program.
            shipped_aliases: versions of those that answer only requests that name them, by model
                and alias.
        """
        self._root = root
        self._shipped = tuple(shipped)
        self._shipped_aliases = shipped_aliases
        self._passed_over: dict[Path, str] = {}

    @property
    def passed_over(self) -> Mapping[Path, str]:
        """What the latest scan took for no model, although it is where models are; and why."""
        return self._passed_over

    def scan(self) -> list[Found]:
        """Returns all versions, by name and number; see `passed_over` for what it leaves out.

        Raises:
            OSError: the root cannot be read.
        """
        self._passed_over = {}
        found = {
            (f.name, f.version): f
            for root in (*self._shipped, self._root)
            for f in self._versions(root)
        }
        return [found[key] for key in sorted(found)]

    def latest(self, name: str) -> int:
        """Returns the highest version number of a model; 0 if there is none."""
        return max((f.version for f in self.scan() if f.name == name), default=0)

    def find(self, name: str, version: str = "") -> Found:
        """Returns one version.

        Args:
            name: the model.
            version: a number or an alias; empty for the version that a server answers with.

        Raises:
            OperatorError: there is no such version, or the alias file cannot be read.
        """
        held = {f.version: f for f in self.scan() if f.name == name}
        aliases = self._aliases_of(name)
        if version:
            number = int(version) if VERSION.fullmatch(version) else aliases.versions.get(version)
        else:
            number = route_of(aliases, held.keys() - set(aliases.unloaded)).version
        if number is None or number not in held:
            wanted = f"{name} version {version}" if version and held else name
            raise OperatorError(
                f"There is no model {wanted}. "
                "Run `image-categorizer models list` to see all models."
            )
        return held[number]

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yields an empty folder to fill and pass to `publish`; removes what is left of it.

        Raises:
            OperatorError: the repository cannot be written to.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{HIDDEN}incoming-", dir=self._root))
        except OSError as error:
            raise OperatorError(
                f"Cannot write to the model repository {self._root}: {error.strerror}."
            ) from None
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path, manifest: Manifest) -> Path:
        """Moves a filled folder into the repository with one rename; returns its new place.

        Raises:
            OperatorError: the version already exists.
        """
        target = self._root / manifest.name / str(manifest.version)
        target.parent.mkdir(exist_ok=True)
        folder.chmod(0o755)  # mkdtemp makes 0700, but the server may run as another user
        try:
            folder.rename(target)
        except OSError:
            raise OperatorError(
                f"{manifest.name} already has a version {manifest.version}."
            ) from None
        return target

    def remove(self, name: str, version: int | None) -> list[int]:
        """Removes one version, or all versions of a model; returns their numbers.

        Args:
            name: the model.
            version: None for all.

        Raises:
            OperatorError: there is no such model or version, it ships with the program, or an alias
                points to the one version.
        """
        matching = [f for f in self.scan() if f.name == name and version in (None, f.version)]
        removable = [f for f in matching if not f.is_packaged]
        if not matching:
            wanted = name if version is None else f"{name} version {version}"
            raise OperatorError(
                f"There is no model {wanted}. "
                "Run `image-categorizer models list` to see all models."
            )
        if not removable:
            raise OperatorError(f"The model {name} ships with the program and cannot be removed.")
        if version is not None:
            self._refuse_aliased(name, version)
        for found in removable:
            doomed = self._root / f"{HIDDEN}removed-{name}-{found.version}-{os.getpid()}"
            found.folder.rename(doomed)
            shutil.rmtree(doomed)
        folder = self._root / name
        own_files = {ALIASES_FILE, POLICY_FILE}
        if not any(entry.name not in own_files for entry in folder.iterdir()):
            for file in own_files:
                (folder / file).unlink(missing_ok=True)
            folder.rmdir()
        elif version in read_aliases(folder).unloaded:
            self.mark_unloaded(name, version, False)  # a later version may reuse the number
        return [found.version for found in removable]

    def aliases(self) -> dict[str, Aliases | OperatorError]:
        """Returns the aliases of every model that has any, or the error from reading its file."""
        read: dict[str, Aliases | OperatorError] = {}
        own = {file.parent.name for file in self._root.glob(f"*/{ALIASES_FILE}")}
        for name in own | self._shipped_aliases.keys():
            if NAME.fullmatch(name):
                try:
                    read[name] = self._aliases_of(name)
                except OperatorError as error:
                    read[name] = error
        return read

    def aliases_of(self, name: str, version: int) -> tuple[str, ...]:
        """Returns the aliases of one version.

        Raises:
            OperatorError: the alias file cannot be read.
        """
        return self._aliases_of(name).pointing_to(version)

    def change_alias(
        self, name: str, alias: str, version: int | None, canary_percent: float
    ) -> Aliases:
        """Points an alias to a version, or removes it; returns all aliases of the model.

        Raises:
            OperatorError: the repository cannot be written to, or the alias file is malformed.
            PromotionRefused: the model's promotion policy does not allow it.
        """

        def change(aliases: Aliases) -> Aliases:
            is_main = alias == CANARY and version and canary_percent > MAX_FREE_CANARY_PERCENT
            if alias == STABLE or is_main:
                self._check_promotion(name, aliases.versions.get(STABLE), version)
            return aliases.with_alias(alias, version, canary_percent)

        return self._with_shipped(name, change_aliases(self._root, name, change))

    def promotion(self, name: str) -> Promotion | None:
        """Returns the promotion policy of a model, and the checks of versions; None without one.

        Raises:
            OperatorError: the policy file cannot be read.
        """
        return read_promotion(self._root / name)

    def set_policy(self, name: str, policy: Policy | None) -> None:
        """Sets the promotion policy of a model, or removes it; see `write_policy`."""
        write_policy(self._root, name, policy)

    def record_check(self, name: str, version: int, check: Check, policy: Policy) -> None:
        """Adds the check of a version; see `record_check`."""
        record_check(self._root, name, version, check, policy)

    def promotion_refusal(self, name: str, version: int) -> str:
        """Returns why `stable` may not point to a version, empty if it may; trusts the manifest.

        Raises:
            OperatorError: the policy, the aliases or a manifest cannot be read.
        """
        promotion = self.promotion(name)
        stable = read_aliases(self._root / name).versions.get(STABLE)
        if promotion is None:
            return ""
        return promotion.refusal(version, self._digests(name), stable)

    def mark_unloaded(self, name: str, version: int, is_unloaded: bool) -> Aliases:
        """Records that a version must not be loaded, or may be again; returns the aliases.

        Raises:
            OperatorError: the repository cannot be written to, or the alias file is malformed.
        """
        changed = change_aliases(
            self._root, name, lambda aliases: aliases.with_unloaded(version, is_unloaded)
        )
        return self._with_shipped(name, changed)

    def _aliases_of(self, name: str) -> Aliases:
        return self._with_shipped(name, read_aliases(self._root / name))

    def _with_shipped(self, name: str, aliases: Aliases) -> Aliases:
        """Adds the aliases of shipped versions that are there.

        A version of the user's with the same number takes the place of a shipped one.
        """
        held = {
            alias: version
            for alias, version in self._shipped_aliases.get(name, {}).items()
            if not _has_manifest(self._root, name, version)
            and any(_has_manifest(root, name, version) for root in self._shipped)
        }
        return aliases.with_shipped(held)

    def _refuse_aliased(self, name: str, version: int) -> None:
        if names := self.aliases_of(name, version):
            raise OperatorError(
                f"The alias {names[0]} points to {name} version {version}; move it with "
                f"`image-categorizer models alias {name} {names[0]} VERSION`."
            )

    def _check_promotion(self, name: str, stable: int | None, version: int | None) -> None:
        """Passes if the promotion policy allows `stable` to move, or a canary to take its place.

        The server's callers see the message, so it holds no path.

        Raises:
            PromotionRefused: it does not, or it cannot be read.
        """
        try:
            promotion = self.promotion(name)
        except OperatorError:
            raise PromotionRefused(
                f"the promotion policy of model {quoted(name)} cannot be read: set it again with "
                f"`image-categorizer models policy {name}`"
            ) from None
        if promotion is None or version == stable:
            return
        if version is None:
            raise PromotionRefused(
                f"model {quoted(name)} has a promotion policy: without {STABLE}, its newest "
                "version would answer, whether it has passed or not"
            )
        try:
            reason = promotion.refusal(version, self._digests(name), stable)
            reason = reason or self._damage_of(name, version)
        except (OSError, OperatorError):
            reason = "its files cannot be read"
        if reason:
            raise PromotionRefused(
                f"version {version} of model {quoted(name)} has not passed the promotion policy: "
                f"{reason}. Check it with `image-categorizer models check {name} {version}` where "
                "the models are"
            )

    def _digests(self, name: str) -> dict[int, str]:
        """Returns the digest of each version that has a usable manifest."""
        digests = {}
        for found in self.scan():
            if found.name == name:
                with suppress(OperatorError):
                    digests[found.version] = manifest_of(found).digest
        return digests

    def _damage_of(self, name: str, version: int) -> str:
        (found,) = [f for f in self.scan() if (f.name, f.version) == (name, version)]
        wrong = damage(found.folder, manifest_of(found))
        return wrong and f"its files are damaged: {wrong}"

    def _versions(self, root: Path) -> Iterator[Found]:
        if not root.is_dir():
            if os.path.lexists(root):
                self._passed_over[root] = "it is not a folder"
            return
        for model in root.iterdir():
            if NAME.fullmatch(model.name):
                yield from self._versions_of(model, root != self._root)
            elif not model.name.startswith(HIDDEN) and model.is_dir():
                self._passed_over[model] = "its name is not one of a model"

    def _versions_of(self, model: Path, is_packaged: bool) -> Iterator[Found]:
        try:
            entries = [(entry, entry.is_dir()) for entry in model.iterdir()]
        except OSError as error:
            self._passed_over[model] = f"it cannot be read: {error.strerror}"
            return
        for folder, is_folder in entries:
            if not VERSION.fullmatch(folder.name):
                if is_folder and not folder.name.startswith(HIDDEN):
                    self._passed_over[folder] = "its name is not a version number"
                continue
            try:
                stamp = (folder / MANIFEST_FILE).stat().st_mtime_ns
            except FileNotFoundError:
                self._passed_over[folder] = f"it has no {MANIFEST_FILE}"
                continue
            except OSError:
                stamp = 0  # reading it fails, too, and says why
            yield Found(model.name, int(folder.name), folder, is_packaged, stamp)


def _has_manifest(root: Path, name: str, version: int) -> bool:
    try:
        return (root / name / str(version) / MANIFEST_FILE).exists()
    except OSError:
        return True  # as `scan` has it; reading it says why


def manifest_of(found: Found) -> Manifest:
    """Returns the manifest of a version.

    Raises:
        OperatorError: it is malformed, or names another model or version than its folder.
    """
    manifest = read_manifest(found.folder)
    if (manifest.name, manifest.version) != (found.name, found.version):
        raise OperatorError(
            f"{found.folder / MANIFEST_FILE} says {manifest.name} version {manifest.version}; "
            "add models with `image-categorizer models add` instead of copying folders"
        )
    return manifest
