"""What the client says about embeddings and similar images."""

from dataclasses import dataclass

from image_categorizer._image_values import StoredImage
from image_categorizer._values import ModelRef


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embedding of one image."""

    vector: tuple[float, ...]
    """Of length 1: the sum of the products of two is their similarity."""
    model: ModelRef
    """Only embeddings of models with the same digest can be compared."""


@dataclass(frozen=True, slots=True)
class SimilarImage:
    """A stored image, and how similar it is."""

    image: StoredImage
    similarity: float
    """The cosine of the angle between the embeddings, in [-1, 1]."""
