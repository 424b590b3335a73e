"""What an error means for an image: it fails, its batch fails, or it is tried again."""

from dataclasses import dataclass

from image_categorizer import (
    AddressNotAllowed,
    CategoryNotFound,
    InvalidRequest,
    ModelNotFound,
    RoleInsufficient,
    Unauthenticated,
    Unavailable,
)
from image_categorizer import CategorizerError as ServerError
from image_categorizer_server import errors
from image_categorizer_server.domain.batch import ItemError

from image_categorizer_workers.streams import CallFailed

# The statuses by which gRPC reports a broken connection if the server sent none.
TRANSPORT = "INTERNAL", "UNKNOWN", "CANCELLED"
UNKNOWN_ERROR = ItemError("INTERNAL", "INTERNAL", "the image could not be classified")


@dataclass(frozen=True, slots=True)
class ItemFails:
    """The image fails. Another attempt would give the same error."""

    error: ItemError


@dataclass(frozen=True, slots=True)
class BatchFails:
    """No image of the batch can be classified with its options."""

    message: str


@dataclass(frozen=True, slots=True)
class RetryLater:
    """A dependency is down or busy. The attempt does not count."""

    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RetryLimited:
    """The cause is unknown. The image fails with `error` after several attempts."""

    error: ItemError


Outcome = ItemFails | BatchFails | RetryLater | RetryLimited


def outcome_of(error: Exception) -> Outcome:
    """Returns what an error means that was raised while reading or classifying an image."""
    match error:
        case CallFailed():
            return _outcome_of_call(error.error)
        case ServerError():
            return _outcome_of_answer(error)
        case errors.Unavailable():
            return RetryLater(error.retry_after_s)
        case errors.CategorizerError():
            return ItemFails(ItemError(error.status, error.reason, error.message))
        case OSError():
            return RetryLater()
        case _:
            return RetryLimited(UNKNOWN_ERROR)


def _outcome_of_call(error: ServerError) -> Outcome:
    if isinstance(error, InvalidRequest | ModelNotFound | CategoryNotFound):
        return BatchFails(error.message)
    # A refused API key also lands here: batches wait until the operator replaces it.
    return RetryLater(error.retry_after_s or 0.0)


def _outcome_of_answer(error: ServerError) -> Outcome:
    if isinstance(error, ModelNotFound | CategoryNotFound):
        return BatchFails(error.message)
    if isinstance(error, Unavailable | Unauthenticated | RoleInsufficient | AddressNotAllowed):
        return RetryLater(error.retry_after_s or 0.0)
    if error.status in TRANSPORT and not error.request_id:
        return RetryLater()
    item_error = ItemError(error.status, error.reason, error.message)
    return ItemFails(item_error) if isinstance(error, InvalidRequest) else RetryLimited(item_error)
