"""The promotion policy of a model: which versions the alias `stable` may point to.

`<root>/<model>/promotion_policy.json` in the repository, beside the aliases, holds the policy and
the checks of versions.  A check counts only for the policy, the pictures and the files that it was
made with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.aliases import STABLE, locked, replace_file
from image_categorizer_server.quoting import quoted

POLICY_FILE = "promotion_policy.json"
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Number = Annotated[int, Field(ge=1)]


class Policy(BaseModel):
    """What a version must show on a labelled set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    """Path of the set."""
    dataset_digest: Digest
    min_accuracy: float = Field(ge=0, le=1)
    """Least share of pictures with the right answer."""
    max_flips_per_category: int | None = Field(None, ge=0)
    """Most pictures of one category that the present `stable` has right and the version wrong."""


class Check(BaseModel):
    """What a version has shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: Digest
    """Of the version's files."""
    dataset_digest: Digest
    right: int = Field(ge=0)
    pictures: Number
    """Those of unknown categories count, those that cannot be read do not."""
    baseline_version: int | None = None
    """The version that `stable` pointed to; None if there was none."""
    baseline_digest: str = ""
    flips: Mapping[str, Number] = {}
    """How many pictures of each category the baseline has right and the version wrong."""

    @property
    def accuracy(self) -> float:
        """Share of pictures with the right answer."""
        return self.right / self.pictures


class Promotion(BaseModel):
    """The content of the policy file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    policy: Policy
    checks: Mapping[Number, Check] = {}
    """By version."""

    def refusal(self, version: int, digests: Mapping[int, str], stable: int | None) -> str:
        """Returns why `stable` may not point to a version; empty if it may.

        Args:
            version: the version.
            digests: those of the versions in the repository.
            stable: the version that `stable` points to.
        """
        check = self.checks.get(version)
        if check is None:
            return "it was not checked"
        if check.digest != digests.get(version):
            return "its files have changed since it was checked"
        if check.dataset_digest != self.policy.dataset_digest:
            return "it was checked with other pictures"
        if check.accuracy < self.policy.min_accuracy:
            return (
                f"it has {check.right} of {check.pictures} pictures right, {check.accuracy:.1%}, "
                f"less than {self.policy.min_accuracy:.1%}"
            )
        return self._flips_refusal(check, digests, stable)

    def _flips_refusal(self, check: Check, digests: Mapping[int, str], stable: int | None) -> str:
        max_flips = self.policy.max_flips_per_category
        before = digests.get(stable, "") if stable is not None else ""
        if max_flips is None or check.digest == before:
            return ""
        # The way back: the present version was compared with this one, and passed.
        present = self.checks.get(stable) if stable is not None else None
        if present and (present.digest, present.baseline_digest) == (before, check.digest):
            return ""
        if check.baseline_digest != before:
            compared = f"version {check.baseline_version}" if check.baseline_digest else "none"
            now = f"version {stable}" if before else "gone"
            return f"it was compared with {compared}, but {STABLE} is {now} now"
        for category, count in sorted(check.flips.items(), key=lambda item: (-item[1], item[0])):
            if count > max_flips:
                pictures = "picture" if count == 1 else "pictures"
                return (
                    f"it has {count} {pictures} of {quoted(category)} wrong that version "
                    f"{check.baseline_version} has right, more than {max_flips}"
                )
        return ""


def read_promotion(folder: Path) -> Promotion | None:
    """Returns the policy of the model in the folder, and the checks; None if it has no policy.

    Raises:
        OperatorError: the file cannot be read or is malformed.
    """
    file = folder / POLICY_FILE
    try:
        return Promotion.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OperatorError(f"Cannot read {file}: {error.strerror}.") from None
    except ValidationError as error:
        raise OperatorError(
            f"{file} is malformed ({str(error).splitlines()[0]}); set the policy again with "
            "`image-categorizer models policy`."
        ) from None


def write_policy(root: Path, model: str, policy: Policy | None) -> None:
    """Sets the policy of a model and forgets all checks; None removes the policy.

    Raises:
        OperatorError: the repository cannot be written to.
    """
    folder = root / model
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(root):
            if policy is None:
                (folder / POLICY_FILE).unlink(missing_ok=True)
            else:
                _write(folder, Promotion(policy=policy))
    except OSError as error:
        raise _not_written(root, error) from None


def record_check(root: Path, model: str, version: int, check: Check, policy: Policy) -> None:
    """Adds the check of a version, in place of an earlier one.

    Raises:
        OperatorError: the repository cannot be written to, or the policy was changed meanwhile.
    """
    folder = root / model
    try:
        with locked(root):
            present = read_promotion(folder)
            if present is None or present.policy != policy:
                raise OperatorError(
                    f"The promotion policy of {model} was changed meanwhile. Check again."
                )
            checks = {**present.checks, version: check}
            _write(folder, present.model_copy(update={"checks": dict(sorted(checks.items()))}))
    except OSError as error:
        raise _not_written(root, error) from None


def _write(folder: Path, promotion: Promotion) -> None:
    replace_file(folder / POLICY_FILE, promotion.model_dump_json(indent=1) + "\n")


def _not_written(root: Path, error: OSError) -> OperatorError:
    return OperatorError(f"Cannot write to the model repository {root}: {error.strerror}.")
