"""Values about embeddings: what a model knows about an image before its last layer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.classification import ModelRef
from image_categorizer_server.domain.image import Image

Vector = NDArray[np.float32]
"""float32 (D,), of length 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The embedding of one image by one model version."""

    vector: Vector
    model: ModelRef


@dataclass(frozen=True, slots=True)
class SimilarImage:
    """A stored image as an answer to a search."""

    image: Image
    similarity: float
    """See `Neighbour`."""


@dataclass(frozen=True, slots=True)
class SimilarImages:
    """What a search finds, the most similar first."""

    images: tuple[SimilarImage, ...]
    model: ModelRef
    """Whose embeddings were compared."""
