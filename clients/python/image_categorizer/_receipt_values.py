"""What the client says about receipts of results."""

from dataclasses import dataclass

from image_categorizer._values import ModelRef, Prediction


@dataclass(frozen=True, slots=True)
class Receipt:
    """A signed statement of what was classified, how, and what was found."""

    result_id: str
    receipt: str
    """A JSON Web Signature; `receipts.verify_receipt` verifies it without a server."""
    key_id: str


@dataclass(frozen=True, slots=True)
class ResultVerification:
    """What is right, and wrong, with a receipt."""

    valid: bool
    """Whether all of the following holds."""
    key_known: bool
    signature_valid: bool
    result_unchanged: bool
    """Whether the result is stored as the receipt states it."""
    problems: tuple[str, ...]
    """One sentence for each that does not hold."""
    result_id: str
    """Empty unless the signature is valid."""


@dataclass(frozen=True, slots=True)
class ReplayDifference:
    """Something that differs between a result and now."""

    name: str
    """`input`, `model`, `preprocessing`, `calibration`, `taxonomy` or `server_version`."""
    recorded: str
    current: str


@dataclass(frozen=True, slots=True)
class ResultReplay:
    """What the model version of a result answers now."""

    matches: bool
    """Whether it predicts the same, to 0.0001."""
    max_difference: float
    """Of the confidences of a category; 1 if other categories are predicted."""
    predictions: tuple[Prediction, ...]
    model: ModelRef
    differences: tuple[ReplayDifference, ...]
