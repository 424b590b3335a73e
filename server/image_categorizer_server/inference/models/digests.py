"""Digests of what, beside its files, decides what a model version answers."""

import hashlib
import json

from image_categorizer_server.domain.classification import Digests
from image_categorizer_server.inference.models.category_tree import CategoryTree
from image_categorizer_server.inference.models.manifest import Manifest


def digests_of(manifest: Manifest, tree: CategoryTree) -> Digests:
    """Returns the digests of a version.

    The digest of a model covers its files, not its manifest: what the manifest says about inputs,
    confidences and categories has digests of its own.

    Args:
        manifest: the version's.
        tree: its categories.
    """
    detection = manifest.detection.model_dump(mode="json") if manifest.detection else None
    return Digests(
        preprocessing=_digest(manifest.input.model_dump(mode="json")),
        calibration=_digest(
            {
                "activation": manifest.activation,
                "detection": detection,
                "temperature": manifest.temperature,
                "temperatures": manifest.temperatures,
            }
        ),
        taxonomy=f"sha256:{tree.digest}",
    )


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
