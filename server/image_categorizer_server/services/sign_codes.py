"""Short codes of embeddings, whose distances tell roughly how similar these are.

A bit of a code says on which side of a random plane the embedding is.  Two embeddings at an angle
of θ differ in a share θ/π of their bits (Charikar 2002, doi:10.1145/509907.509965).  So the Hamming
distance finds candidates among many, and the embeddings themselves put them in order.

Codes are kept in the database: change neither the planes nor their number without a migration.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.embedding import Vector

BITS = 2048
"""A multiple of 64.  `docs/embeddings.md` has what half and twice as many give."""
WORDS = BITS // 64
CODE_BYTES = BITS // 8
SEED = 1


def code_of(vector: Vector) -> bytes:
    """Returns the code of an embedding, `CODE_BYTES` long."""
    return codes_of(vector[None]).tobytes()


def codes_of(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns the codes uint8 (N, CODE_BYTES) of embeddings float32 (N, D)."""
    # Networks end in features that are never negative, so all embeddings lean to one side.  Without
    # their mean over the features they spread further apart.
    centred = vectors - vectors.mean(1, keepdims=True)
    return np.packbits(centred @ _planes(vectors.shape[1]) > 0, axis=1)


@lru_cache(maxsize=4)
def _planes(dimensions: int) -> NDArray[np.float32]:
    # Not `default_rng`: its numbers may change between releases of NumPy; these never do.
    random = np.random.RandomState(SEED)
    return random.standard_normal((dimensions, BITS)).astype(np.float32)
