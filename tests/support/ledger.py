"""What a client knows: its acknowledged batches, and the right category of each image."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.storage import StorageSettings
from image_categorizer_server.stores.object_store import open_storage
from PIL import Image

from tests.support.database import connect_as_owner
from tests.support.invariants import find_faults

CATEGORIES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DECIDING_BYTE = 10


@dataclass(frozen=True)
class Picture:
    """An image, and the category that the model `fake` gives it."""

    name: str
    content: bytes
    category: str


def pictures(count: int, seed: int = 0, side_px: int = 32) -> list[Picture]:
    """Returns pictures that all differ."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        pixels = random.integers(0, 256, (side_px, side_px, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
        digest = hashlib.sha256(pixels.tobytes()).digest()
        category = CATEGORIES[digest[DECIDING_BYTE] % len(CATEGORIES)]
        made.append(Picture(f"{seed}-{number}.png", buffer.getvalue(), category))
    return made


@dataclass
class Ledger:
    """The acknowledged batches, each with its number of images."""

    batches: dict[str, int] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    """By the SHA-256 of the encoded image."""

    def submitted(self, given: list[Picture]) -> None:
        for picture in given:
            self.categories[hashlib.sha256(picture.content).hexdigest()] = picture.category

    def acknowledged(self, batch_id: str, item_count: int) -> None:
        self.batches[batch_id] = item_count

    @property
    def item_count(self) -> int:
        return sum(self.batches.values())

    async def check(self, database_url: str, images: Path | Settings, failures: int = 0) -> None:
        """Checks the invariants I1 to I6, and the number of failed items.

        Args:
            database_url: the database of the batches.
            images: the folder of the images, or the settings of another store.
            failures: expected number of failed items.

        Raises:
            AssertionError: an invariant does not hold.
        """
        settings = (
            images
            if isinstance(images, Settings)
            else Settings(storage=StorageSettings(path=images))
        )
        async with open_storage(settings) as storage:
            faults = await find_faults(
                database_url, self.batches, storage, lambda sha256: self.categories[sha256]
            )
        assert not faults, faults[:20]
        connection = await connect_as_owner(database_url)
        rows = await connection.fetch("SELECT * FROM batch_results WHERE status <> 'OK'")
        counts = dict(
            await connection.fetch(
                "SELECT batch_id, succeeded_count + failed_count FROM batches"
                " WHERE state = 'COMPLETED' AND batch_id = ANY($1)",
                list(self.batches),
            )
        )
        await connection.close()
        assert len(rows) == failures, [dict(row) for row in rows][:10]
        assert counts == self.batches
