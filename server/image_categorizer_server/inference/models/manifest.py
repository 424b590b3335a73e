"""The manifest of a model version: its files, its input and its categories.

`manifest.json` is in the same folder as the files it names and is written last: a folder without it
is not a model.
"""

import hashlib
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from image_categorizer_server.domain.classification import Category
from image_categorizer_server.domain.model import Activation, Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.detect import Detection
from image_categorizer_server.inference.images.preprocess import InputSpec

MANIFEST_FILE = "manifest.json"
CALIBRATION_FILE = "calibration.json"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]

RangesOf = Literal["percentile", "min-max"]
Temperature = Annotated[float, Field(gt=0, le=100)]


class FileEntry(BaseModel):
    """Hash and size of one file of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class CategoryEntry(BaseModel):
    """One category, in the order of the network's outputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    id: str = ""
    ancestors: tuple[str, ...] = ()
    """Broader categories, nearest first. With two parents, those above both."""
    ancestor_ids: tuple[str, ...] = ()
    """The identifiers of `ancestors`, each of which may be empty; or none."""

    @model_validator(mode="after")
    def _ids_match(self) -> Self:
        if self.ancestor_ids and len(self.ancestor_ids) != len(self.ancestors):
            raise ValueError("ancestor_ids must have an identifier for each of ancestors, or none")
        return self


class CalibrationRecord(BaseModel):
    """The content of `calibration.json`: how temperatures came about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float
    temperatures: dict[str, float]
    """See `Manifest`."""
    pictures_by_group: dict[str, int]
    """How many pictures fitted each of `temperatures`."""
    choice: str
    """Why there are groups, or none."""
    dataset_digest: str
    fitted_pictures: int
    held_out_pictures: int
    error_before: float
    """Expected calibration error of the pictures that were held out; with groups, inside them."""
    error_after: float
    log_loss_before: float
    """Of the pictures that were held out."""
    log_loss_after: float


class QuantizationRecord(BaseModel):
    """What int8 loses against fp32, and what it gains, where it was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = Field(ge=1)
    is_labelled: bool
    """Without labels the answers of fp32 count as right."""
    fp32_top_1: int = Field(ge=0)
    """Number of pictures whose category is the answer."""
    int8_top_1: int = Field(ge=0)
    fp32_top_5: int = Field(ge=0)
    """Number of pictures whose category is among the first five answers."""
    int8_top_5: int = Field(ge=0)
    speed: float = Field(gt=0)
    """Images per second on one thread, divided by those of fp32."""
    ranges: RangesOf | None = None
    """How the ranges of its activations were found; None for those that ship."""

    def __str__(self) -> str:
        labelled = "labelled pictures" if self.is_labelled else "pictures as fp32 answers"
        return (
            f"int8 is right on {self.int8_top_1} of {self.pictures} {labelled}, "
            f"fp32 on {self.fp32_top_1}; top 5: {self.int8_top_5}, fp32 {self.fp32_top_5}; "
            f"{self.speed:.1f} times as fast"
        )


class Manifest(BaseModel):
    """The content of `manifest.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: int = Field(ge=1)
    format: Literal["fake", "transformers", "onnx"] = "transformers"
    """`onnx`: `model.onnx` maps bytes to confidences, as an export does."""
    precision: Literal["fp32", "int8"] = "fp32"
    architecture: Literal["", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"] = ""
    """Of an `onnx` version: the network of ours that `model.safetensors` fills, for GPUs."""
    localization: Localization = Localization.NONE
    """How the second output of an `onnx` version locates categories; NONE for other formats."""
    cell_offset: float = 0.0
    """As in `ExportReport`, of an `onnx` version."""
    detection: Detection | None = None
    """Of a detector, whose features are boxes and scores; None for other networks."""
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    files: dict[FileName, FileEntry] = Field(min_length=1)
    categories: tuple[CategoryEntry, ...] = Field(min_length=1)
    input: InputSpec
    activation: Activation
    temperature: Temperature = 1.0
    """What logits are divided by before the activation; see `models calibrate`."""
    temperatures: dict[str, Temperature] = Field(default_factory=dict)
    """What they are divided by if the first category is one of these, or below it: the nearest."""
    roll_up: bool | None = None
    """Whether requests that do not say roll up; None for `CATEGORIZER_MODELS__ROLL_UP`."""
    licence: str = ""
    origin: str = ""
    quantization: QuantizationRecord | None = None
    """Of an int8 version: how it compares with the fp32 version that it was made from."""

    @model_validator(mode="after")
    def _scores_are_confidences(self) -> Self:
        if self.detection and (self.activation != "none" or self.is_calibrated):
            raise ValueError("a detector has activation none and no temperature")
        return self

    @property
    def is_calibrated(self) -> bool:
        """Whether its confidences are others than those of the network."""
        return self.temperature != 1 or bool(self.temperatures)

    def category_temperatures(self) -> tuple[float, ...]:
        """Returns what logits are divided by if a category comes first, in the order of outputs."""
        groups = groups_of(self.categories, self.temperatures)
        return tuple(self.temperatures.get(group, self.temperature) for group in groups)

    def domain_categories(self) -> tuple[Category, ...]:
        """Returns the categories as plain values, in the order of the network's outputs."""
        return tuple(Category(entry.name, entry.id, entry.ancestors) for entry in self.categories)

    def sha256(self) -> str:
        """Returns the hash of the manifest itself, in hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def groups_of(categories: Iterable[CategoryEntry], names: Container[str]) -> tuple[str, ...]:
    """Returns the nearest of `names` of each category, which may be its own; empty for none."""
    return tuple(
        next((name for name in (each.name, *each.ancestors) if name in names), "")
        for each in categories
    )


def read_manifest(folder: Path) -> Manifest:
    """Returns the manifest of a model version.

    Raises:
        OperatorError: it is missing, unreadable or malformed.
    """
    try:
        # Bytes: pydantic reports text that is not UTF-8 as it reports malformed JSON.
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise OperatorError(
            f"{folder} does not contain a model: {error.strerror}: {MANIFEST_FILE}."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise OperatorError(
            f"{folder / MANIFEST_FILE} is malformed: {place}: {first['msg']}."
        ) from None


def describe_file(file: Path) -> FileEntry:
    """Returns the hash and the size of a file; reads the whole file."""
    with file.open("rb") as content:
        return FileEntry(
            sha256=hashlib.file_digest(content, "sha256").hexdigest(), bytes=file.stat().st_size
        )


def digest_of(files: Mapping[str, FileEntry]) -> str:
    """Returns `sha256:` and the hash of the names and hashes of all files."""
    lines = "".join(f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def damage(folder: Path, manifest: Manifest) -> str:
    """Returns a sentence on what is wrong with the files, empty if nothing; reads all of them."""
    for name, entry in manifest.files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if describe_file(file) != entry:
            return f"{name} does not match the manifest"
    if digest_of(manifest.files) != manifest.digest:
        return "the digest does not match the files"
    return ""
