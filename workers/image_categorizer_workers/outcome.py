"""What a failure of one image means: its own fault, the whole batch's, or nobody's for now."""

from dataclasses import dataclass

from image_categorizer import CategorizerError as ServerError
from image_categorizer import (
    CategoryNotFound,
    InvalidRequest,
    ModelNotFound,
    RoleInsufficient,
    Unauthenticated,
    Unavailable,
)
from image_categorizer_server import errors
from image_categorizer_server.domain.batch import ItemError

from image_categorizer_workers.streams import CallFailed

BATCH_ERRORS = ModelNotFound, CategoryNotFound
# A connection that breaks, as gRPC shows it where the server had no last word.
TRANSPORT = "INTERNAL", "UNKNOWN", "CANCELLED"
UNKNOWN = ItemError("INTERNAL", "INTERNAL", "the image could not be classified")


@dataclass(frozen=True, slots=True)
class ItsOwn:
    """The image fails, today and tomorrow."""

    error: ItemError


@dataclass(frozen=True, slots=True)
class OfTheBatch:
    """No image of the batch can be classified as it asks."""

    message: str


@dataclass(frozen=True, slots=True)
class Passing:
    """Something is down or busy; the image has nothing to do with it."""

    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Unexplained:
    """It may go well the next time, but not for ever."""

    error: ItemError


Verdict = ItsOwn | OfTheBatch | Passing | Unexplained


def verdict_of(error: Exception) -> Verdict:
    """Returns what a failure to read or to classify an image means."""
    match error:
        case CallFailed():
            return _of_the_call(error.error)
        case ServerError():
            return _of_the_answer(error)
        case errors.Unavailable():
            return Passing(error.retry_after_s)
        case errors.CategorizerError():
            return ItsOwn(ItemError(error.status, error.reason, error.message))
        case OSError() | TimeoutError():
            return Passing()
        case _:
            return Unexplained(UNKNOWN)


def _of_the_call(error: ServerError) -> Verdict:
    if isinstance(error, InvalidRequest | ModelNotFound | CategoryNotFound):
        return OfTheBatch(error.message)
    # That our own key is refused is for the operator to mend; the batches wait for it.
    return Passing(error.retry_after_s or 0.0)


def _of_the_answer(error: ServerError) -> Verdict:
    if isinstance(error, BATCH_ERRORS):
        return OfTheBatch(error.message)
    if isinstance(error, Unavailable | Unauthenticated | RoleInsufficient):
        return Passing(error.retry_after_s or 0.0)
    if error.status in TRANSPORT and not error.request_id:
        return Passing()
    told = ItemError(error.status, error.reason, error.message)
    return ItsOwn(told) if isinstance(error, InvalidRequest) else Unexplained(told)
