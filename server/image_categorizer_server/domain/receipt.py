"""What a receipt states about a result.

A receipt is a JSON Web Signature whose payload is `claims_of` a result: the statement is made from
what is stored, so that it can be compared with it later.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from image_categorizer_server.domain.audit import utc_text
from image_categorizer_server.domain.classification import ClassifyOptions, Prediction
from image_categorizer_server.domain.image import ImageResult

ISSUER = "image-categorizer"
ON_STORING, ON_REQUEST = "STORED", "REQUESTED"
"""When a receipt was signed: with the result, or later, from what was stored of it."""
TOLERANCE = 1e-4
"""By how much confidences of one model version may differ: the images of a micro-batch, and the
processor, decide on the last digits."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What is right, and wrong, with a receipt."""

    key_known: bool
    signature_valid: bool
    result_unchanged: bool
    problems: tuple[str, ...]
    """One sentence for each that is wrong."""
    result_id: str
    """Empty unless the signature is valid."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that differs between a result and now."""

    name: str
    recorded: str
    current: str


def claims_of(tenant_id: str, result: ImageResult, signed: str) -> dict[str, object]:
    """Returns the payload of a receipt, as JSON has it.

    Args:
        tenant_id: the owner.
        result: what is stored; an item of a batch has no image.
        signed: ON_STORING or ON_REQUEST.
    """
    return {
        "iss": ISSUER,
        "signed": signed,
        "tenant_id": tenant_id,
        "result_id": result.result_id,
        "image_id": result.image_id,
        "input_sha256": result.input_sha256,
        "model": asdict(result.model),
        "digests": asdict(result.digests),
        "options": _options(result.options) if result.options else None,
        "predictions": [prediction.public_fields() for prediction in result.predictions],
        "server_version": result.server_version,
        "create_time": utc_text(result.create_time),
    }


def _options(options: ClassifyOptions) -> dict[str, object]:
    """Returns the options that decide on predictions."""
    return {
        "confidence_threshold": options.confidence_threshold,
        "top_k": options.top_k,
        "include_categories": list(options.include_categories),
        "exclude_categories": list(options.exclude_categories),
        "roll_up": options.roll_up,
        "bounding_boxes": options.bounding_boxes,
        "raw_confidence": options.raw_confidence,
    }


def changed_claims(stated: Mapping[str, object], stored: Mapping[str, object]) -> list[str]:
    """Returns the names of the claims that differ, sorted."""
    names = stated.keys() | stored.keys()
    return sorted(name for name in names if stated.get(name) != stored.get(name))


def distance(before: tuple[Prediction, ...], after: tuple[Prediction, ...]) -> float:
    """Returns the largest difference between confidences; 1 if other categories are predicted."""
    names = [prediction.category.name for prediction in before]
    others = {prediction.category.name: prediction.confidence for prediction in after}
    if set(names) != others.keys():
        return 1.0
    return max((abs(p.confidence - others[p.category.name]) for p in before), default=0.0)


def are_alike(before: tuple[Prediction, ...], after: tuple[Prediction, ...]) -> bool:
    """Returns whether predictions are the same within `TOLERANCE`, and in the same order.

    Those whose confidences differ by less than the tolerance may change places.
    """
    if distance(before, after) > TOLERANCE:
        return False
    pairs = zip(before, after, strict=True)
    return all(abs(a.confidence - b.confidence) <= TOLERANCE for a, b in pairs)
