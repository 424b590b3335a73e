"""The stored images most similar to an embedding.

    embedding ─▶ its code ─▶ candidates: the nearest codes in memory ─▶ their embeddings from the
    database, of images that are still stored ─▶ the most similar of these

A tenant's codes of one model are loaded at the first search, and follow the table at each search:
an image is found as soon as it is stored.  One that is deleted has no row, so it is never returned;
its code goes when it is met.  The indexes that were not used for longest make room for others.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from image_categorizer_server.db import embedding as rows
from image_categorizer_server.domain.classification import Neighbour
from image_categorizer_server.domain.embedding import Embedding, Vector
from image_categorizer_server.errors import FailedPrecondition
from image_categorizer_server.services.code_index import CodeIndex
from image_categorizer_server.services.sign_codes import CODE_BYTES, code_of, codes_of
from image_categorizer_server.settings.embedding import EmbeddingSettings

PAGE_ROWS = 20_000
STORED = "<f2"
"""How vectors are stored: half precision, little-endian."""
ALL = 2**63 - 1
MAX_ROUNDS = 3
"""How often deleted images may crowd out others until the index is loaded anew."""

Key = tuple[str, str]
"""Tenant, and digest of the model."""


class _Index:
    """The codes of one tenant and model, as far as they are read."""

    def __init__(self, key: Key, settings: EmbeddingSettings) -> None:
        self.key = key
        self.codes = CodeIndex()
        self.turn = asyncio.Lock()
        self._settings = settings
        self._resume = 0, 0
        """The transaction and number after which rows are read next."""
        self._recent: dict[int, int] = {}
        """The numbers of rows after `_resume` that are read, with their transactions."""
        self._is_loaded = False

    async def follow(self) -> None:
        """Adds what was written since the last call.  One that is cancelled loses no page.

        Raises:
            FailedPrecondition: the index takes more memory than all may.
            DependencyDown: the database does not answer.
        """
        after, unsure, is_last = self._resume, (ALL, 0), False
        while not is_last:
            now, page = await rows.read_codes(
                *self.key, after, PAGE_ROWS, later=not self._is_loaded
            )
            unsure = min(unsure, (now.oldest, 0))
            self._add([row for row in page if row.number not in self._recent])
            # Not those of later transactions: a restore may have brought all.  If one is read
            # again after all, its code is there twice, which changes no answer.
            self._recent |= {
                row.number: row.written_by for row in page if unsure[0] <= row.written_by < now.next
            }
            is_last = len(page) < PAGE_ROWS
            if not is_last:
                after = page[-1].written_by, page[-1].number
                self._resume = min(after, unsure)
        self._resume, self._is_loaded = unsure, True
        self._recent = {n: by for n, by in self._recent.items() if by >= unsure[0]}

    def _add(self, new: Sequence[rows.CodeRow]) -> None:
        codes = np.frombuffer(b"".join(row.code for row in new), np.uint8)
        numbers = np.array([row.number for row in new], np.int64)
        self.codes.add(numbers, codes.reshape(-1, CODE_BYTES))
        if self.codes.size_bytes > self._settings.index_bytes:
            raise FailedPrecondition(
                f"{len(self.codes)} images or more take more memory than "
                "CATEGORIZER_EMBEDDING__INDEX_MB allows"
            )


class Neighbours:
    """Finds the neighbours of embeddings; each tenant's among its own images."""

    def __init__(self, settings: EmbeddingSettings) -> None:
        """Starts with no index in memory."""
        self._settings = settings
        self._indexes: OrderedDict[Key, _Index] = OrderedDict()

    async def nearest(
        self, tenant_id: str, model_digest: str, vector: Vector, limit: int
    ) -> list[Neighbour]:
        """Returns up to `limit` stored images, the most similar first.

        Raises:
            FailedPrecondition: the tenant has more images than the memory for indexes holds.
            DependencyDown: the database does not answer.
        """
        code, key = code_of(vector), (tenant_id, model_digest)
        wanted = max(limit, self._settings.candidates)
        found: list[rows.VectorRow] = []
        for round_number in range(MAX_ROUNDS + 1):
            if round_number == MAX_ROUNDS:
                self._indexes.pop(key, None)
            index = self._used(key)
            candidates = await self._candidates(index, code, wanted)
            found = await rows.read_vectors(tenant_id, model_digest, candidates)
            gone = set(candidates).difference(row.number for row in found)
            if gone:
                async with index.turn:
                    index.codes.remove(np.array(sorted(gone), np.int64))
            if len(found) >= limit or len(candidates) < wanted:
                break
        return _ranked(found, vector, limit)

    async def _candidates(self, index: _Index, code: bytes, wanted: int) -> list[int]:
        async with index.turn:
            try:
                await index.follow()
            except FailedPrecondition:
                self._indexes.pop(index.key, None)
                raise
            numbers = await asyncio.to_thread(index.codes.nearest, code, wanted)
        self._evict()
        return [int(number) for number in np.unique(numbers)]

    def _used(self, key: Key) -> _Index:
        if key not in self._indexes:
            self._indexes[key] = _Index(key, self._settings)
        self._indexes.move_to_end(key)
        return self._indexes[key]

    def _evict(self) -> None:
        while len(self._indexes) > 1 and self.size_bytes > self._settings.index_bytes:
            self._indexes.popitem(last=False)

    @property
    def size_bytes(self) -> int:
        """The memory of all indexes."""
        return sum(index.codes.size_bytes for index in self._indexes.values())


def rows_of(new: Sequence[tuple[str, Embedding]]) -> list[rows.NewRow]:
    """Returns the rows of embeddings; those of one model get their codes together."""
    found: list[rows.NewRow] = []
    for digest in {embedding.model.digest for _, embedding in new}:
        some = [(i, embedding.vector) for i, embedding in new if embedding.model.digest == digest]
        vectors = np.stack([vector for _, vector in some])
        stored = vectors.astype(STORED)
        found += [
            rows.NewRow(image_id, digest, code.tobytes(), vector.tobytes())
            for (image_id, _), code, vector in zip(some, codes_of(vectors), stored, strict=True)
        ]
    return found


def _ranked(found: Sequence[rows.VectorRow], vector: Vector, limit: int) -> list[Neighbour]:
    """Returns the most similar of the candidates."""
    if not found:
        return []
    stored = np.frombuffer(b"".join(row.vector for row in found), STORED)
    # Halves are rounded, and no longer exactly of length 1.
    matrix = stored.astype(np.float32).reshape(len(found), -1)
    lengths = np.linalg.norm(matrix, axis=1)
    similarities = (matrix @ vector) / np.where(lengths > 0, lengths, 1)
    best = np.argsort(-similarities, kind="stable")[:limit]
    return [Neighbour(found[i].image_id, float(similarities[i].clip(-1, 1))) for i in best]
