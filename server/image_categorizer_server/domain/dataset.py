"""Values about exports of stored images as a labelled set."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

TRAIN, VALIDATION, TEST = "train", "validation", "test"
WHOLE = "images"
"""The part of images that are not split."""
SHARE_BYTES = 8
DIGEST_DIGITS = 8
MAX_FOLDER_CHARACTERS = 100
# What some system gives a meaning in names.
UNSAFE = re.compile(r"[\x00-\x1f\x7f<>:\"/\\|?*]")


@dataclass(frozen=True, slots=True)
class Split:
    """Which image belongs to which part."""

    validation_percent: int = 0
    test_percent: int = 0
    seed: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that there may be."""
        if not self.validation_percent and not self.test_percent:
            return (WHOLE,)
        shares = (TRAIN, 1), (VALIDATION, self.validation_percent), (TEST, self.test_percent)
        return tuple(name for name, share in shares if share)

    def part_of(self, sha256: str) -> str:
        """Returns the part of an image; the same for the same bytes.

        Args:
            sha256: of the bytes.
        """
        if self.parts == (WHOLE,):
            return WHOLE
        digest = hashlib.sha256(f"{self.seed}\0{sha256}".encode()).digest()
        place = int.from_bytes(digest[:SHARE_BYTES]) * 100 >> 8 * SHARE_BYTES
        if place < self.test_percent:
            return TEST
        return VALIDATION if place < self.test_percent + self.validation_percent else TRAIN


@dataclass(frozen=True, slots=True)
class DatasetFilter:
    """Which images are exported."""

    include_unreviewed: bool = False
    model: str = ""
    tags: tuple[str, ...] = ()
    start_time: datetime | None = None
    """When the image was stored, at the earliest."""
    end_time: datetime | None = None
    """Before when it was."""


def folder_of(category: str) -> str:
    """Returns the name of the folder of a category: its own, if any system takes it for a name."""
    is_short = 0 < len(category) <= MAX_FOLDER_CHARACTERS
    has_ends = category == category.strip() == category.strip(".")
    if is_short and has_ends and not UNSAFE.search(category):
        return category
    digest = hashlib.sha256(category.encode()).hexdigest()[:DIGEST_DIGITS]
    return f"{UNSAFE.sub('_', category).strip('. ')[:MAX_FOLDER_CHARACTERS]}-{digest}"
