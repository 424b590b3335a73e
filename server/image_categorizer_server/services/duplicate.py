"""Stored images that look alike: those whose perceptual hashes differ by few bits."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from image_categorizer_server.db import duplicate as rows
from image_categorizer_server.db import image as image_rows
from image_categorizer_server.db.facts import hash_to_bigint
from image_categorizer_server.domain.image import Image
from image_categorizer_server.errors import (
    FailedPrecondition,
    ImageNotFound,
    InvalidRequest,
    Overloaded,
)
from image_categorizer_server.inference.images.hash_groups import labels_of
from image_categorizer_server.paging import Page, limit_of, number_and_text_of, page_from, token_of

DEFAULT_BITS = 4
MAX_BITS = 10
MAX_IMAGES = 1_000_000
"""Their hashes and ids take about 150 MB while they are compared."""
PAGE_ROWS = 20_000
MAX_LISTED = 1000
MAX_WAITING = 4
RETRY_AFTER_S = 5.0
# For the next pages of a list.
KEPT_S = 60.0
MAX_KEPT = 8


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that look alike."""

    image_count: int
    image_ids: tuple[str, ...]
    """By id, `MAX_LISTED` at most."""

    @property
    def position(self) -> tuple[int, str]:
        """What the list is ordered by."""
        return -self.image_count, self.image_ids[0]


Groups = Sequence[DuplicateGroup]


class Duplicates:
    """Finds images that look alike; each tenant's among its own."""

    def __init__(self) -> None:
        """Starts without groups."""
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._kept: OrderedDict[tuple[str, int], tuple[float, Groups]] = OrderedDict()

    async def list_page(
        self, tenant_id: str, max_distance_bits: int, page_size: int = 0, page_token: str = ""
    ) -> Page[DuplicateGroup]:
        """Returns a page of the groups of a tenant's images, the largest first.

        Args:
            tenant_id: the tenant.
            max_distance_bits: by how many bits two hashes may differ.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            InvalidRequest: a value is not valid.
            FailedPrecondition: the tenant has too many images, or too similar ones.
            Overloaded: too many calls compare images.
            DependencyDown: the database does not answer.
        """
        limit = limit_of(page_size)
        check_bits(max_distance_bits, "max_distance_bits")
        after = number_and_text_of(page_token)
        groups = await self._groups(tenant_id, max_distance_bits, is_next=after is not None)
        if after is not None:
            position = -after[0], after[1]
            groups = [group for group in groups if group.position > position]
        return page_from(
            groups, limit, lambda group: token_of(group.image_count, group.image_ids[0])
        )

    async def _groups(self, tenant_id: str, bits: int, *, is_next: bool) -> Groups:
        key = tenant_id, bits
        if self._waiting >= MAX_WAITING:
            raise Overloaded("too many calls compare images", RETRY_AFTER_S)
        self._waiting += 1
        try:
            async with self._lock:
                found = self._kept.get(key)
                if found and is_next and time.monotonic() < found[0]:
                    return found[1]
                groups = await _grouped(tenant_id, bits)
                self._kept[key] = time.monotonic() + KEPT_S, groups
                self._kept.move_to_end(key)
                self._forget()
                return groups
        finally:
            self._waiting -= 1

    def _forget(self) -> None:
        now_s = time.monotonic()
        for key in [key for key, (until_s, _) in self._kept.items() if until_s <= now_s]:
            del self._kept[key]
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    async def near(
        self, tenant_id: str, image_id: str, max_distance_bits: int, limit: int
    ) -> list[str]:
        """Returns the images that look like another one, the most similar first, without it.

        Raises:
            InvalidRequest: `max_distance_bits` is not valid.
            ImageNotFound: the tenant has no such image.
            FailedPrecondition: the image has no hash.
            DependencyDown: the database does not answer.
        """
        check_bits(max_distance_bits, "look_alike_bits")
        number = hash_to_bigint(await hash_of(tenant_id, image_id))
        return await rows.find_near(tenant_id, image_id, number, max_distance_bits, limit)


async def hash_of(tenant_id: str, image_id: str) -> str:
    """Returns the perceptual hash of an image.

    Raises:
        ImageNotFound: the tenant has no such image.
        FailedPrecondition: the image has no hash.
        DependencyDown: the database does not answer.
    """
    image: Image | None = await image_rows.get(tenant_id, image_id)
    if image is None:
        raise ImageNotFound("no such image")
    if image.facts is None:
        raise FailedPrecondition(
            "an earlier release has stored the image, without a hash: delete it and store it again"
        )
    return image.facts.perceptual_hash


def check_bits(bits: int, field: str) -> None:
    """Passes a number of bits by which hashes may differ.

    Raises:
        InvalidRequest: it is too small or too large.
    """
    if not 0 <= bits <= MAX_BITS:
        raise InvalidRequest.of([(field, f"must be between 0 and {MAX_BITS}, is {bits}")])


async def _grouped(tenant_id: str, bits: int) -> Groups:
    ids: list[str] = []
    parts: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    after = rows.FIRST
    while page := await rows.list_hashes(tenant_id, after, PAGE_ROWS):
        ids += [image_id for _, image_id in page]
        parts.append(np.array([number for number, _ in page], np.int64))
        after = page[-1]
        if len(ids) > MAX_IMAGES:
            raise FailedPrecondition(f"there are more than {MAX_IMAGES} images to compare")
    if not ids:
        return []
    hashes = np.concatenate(parts).view(np.uint64)
    return await asyncio.to_thread(_listed, ids, hashes, bits)


def _listed(
    ids: list[str], hashes: "np.ndarray[tuple[int], np.dtype[np.uint64]]", bits: int
) -> Groups:
    labels = labels_of(hashes, bits)
    order = np.argsort(labels, kind="stable")
    ends = np.flatnonzero(np.diff(labels[order], append=-1)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    groups = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start > 1:
            members = sorted(ids[place] for place in order[start:end].tolist())
            groups.append(DuplicateGroup(len(members), tuple(members[:MAX_LISTED])))
    return sorted(groups, key=lambda group: group.position)
