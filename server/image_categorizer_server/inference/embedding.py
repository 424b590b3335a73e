"""Embeddings from the features of a network.

    features (K, h, w) ─▶ mean over positions (K,) ─▶ divided by its length

The mean is exactly what the network's last layer reads; see `runtimes/features`.  Only networks
with class activation have one: the features of a transformer are its attention, and those of a
detector its boxes.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.domain.embedding import Vector
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.inference.models.loader import LoadedModel
from image_categorizer_server.quoting import quoted

WHY_NOT = {
    Localization.NONE: "has no layer whose features can be read",
    Localization.ATTENTION_ROLLOUT: "is a transformer, whose features are not read",
    Localization.DETECTION: "is a detector, which has no features of a whole image",
}


def has_embeddings(model: LoadedModel) -> bool:
    """Returns whether a model makes embeddings."""
    return _localization_of(model) is Localization.CLASS_ACTIVATION


def check_embeds(model: LoadedModel) -> None:
    """Passes a model that makes embeddings.

    Raises:
        InvalidRequest: it makes none; the message says why.
    """
    if not has_embeddings(model):
        why = WHY_NOT[_localization_of(model)]
        text = f"{quoted(model.ref.name)} makes no embeddings: it {why}"
        raise InvalidRequest.of([("model", text)])


def _localization_of(model: LoadedModel) -> Localization:
    return model.localizer.localization if model.localizer else Localization.NONE


def pooled(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns what the last layer reads, float32 (K,), from features float32 (K, h, w)."""
    flat = features.reshape(features.shape[0], -1)
    return cast("NDArray[np.float32]", flat.mean(1, dtype=np.float32))


def embedding_of(features: NDArray[np.float32]) -> Vector:
    """Returns the embedding, float32 (K,) of length 1, from features float32 (K, h, w).

    Features that are zero everywhere have a length of 0, and remain so.
    """
    mean = pooled(features)
    length = np.linalg.norm(mean)
    return mean / length if length > 0 else mean
