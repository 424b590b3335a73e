"""What a call can raise; the same tree, by the same names, as the server's.

CategorizerError
├─ Unauthenticated         no or bad credentials
│   ├─ CredentialsMissing
│   └─ CredentialsInvalid
├─ RoleInsufficient        the key's role may not do this
├─ InvalidRequest          a field is wrong; `violations` names each
│   ├─ UndecodableImage        not an image, or a damaged one
│   ├─ UnsupportedFormat       an image of a format that is not read
│   ├─ ImageTooLarge           too many bytes
│   ├─ TooManyPixels           too many pixels, or an absurd shape
│   ├─ UnclassifiableImage     the model fails on this image
│   ├─ ImageUnreachable        it cannot be fetched from its URI
│   └─ BatchTooLarge           too many items or bytes for one batch
├─ NotFound
│   ├─ ModelNotFound
│   ├─ CategoryNotFound
│   ├─ BatchNotFound
│   ├─ WebhookNotFound
│   └─ DeliveryNotFound
├─ RequestIdReused         another batch was created with this request id
├─ FailedPrecondition      not as things are; someone has to change that first
│   ├─ ModelFailed             the version does not answer
│   ├─ ModelInUse              other requests rely on the version
│   ├─ BatchRunning            it has not ended
│   └─ WebhookDisabled         enable it first
├─ QuotaExceeded           the tenant has as many of these as it may
├─ Unavailable             not now; was tried again already
│   ├─ Overloaded
│   ├─ DeadlineUnreachable
│   ├─ ModelFailing
│   ├─ ModelLoading
│   ├─ Draining
│   └─ DependencyDown
├─ ItemKilledWorkers       of an item of a batch: processes die of it
├─ ItemKilledServers       of an item of a batch: servers die of it
└─ DeadlineExceeded        no answer within `timeout_s`
"""

from typing import ClassVar


class CategorizerError(Exception):
    """The root; itself raised for bugs of the server, and where no other class fits."""

    reason: ClassVar[str] = "INTERNAL"
    """The `google.rpc.ErrorInfo.reason` that becomes this class."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.status = ""
        """Name of the gRPC status code."""
        self.request_id = ""
        """Identifies the request in the server's logs; empty where no server answered."""
        self.violations: list[tuple[str, str]] = []
        """(field, description) of each wrong field."""
        self.retry_after_s: float | None = None
        """Seconds after which the server asks to be tried again."""


class Unauthenticated(CategorizerError):
    """Who calls is not known."""

    reason = "UNAUTHENTICATED"


class CredentialsMissing(Unauthenticated):
    """No API key was sent."""

    reason = "CREDENTIALS_MISSING"


class CredentialsInvalid(Unauthenticated):
    """The API key is malformed, unknown, revoked or expired."""

    reason = "CREDENTIALS_INVALID"


class RoleInsufficient(CategorizerError):
    """The API key's role may not do this."""

    reason = "ROLE_INSUFFICIENT"


class InvalidRequest(CategorizerError):
    """A field is wrong."""

    reason = "FIELD_INVALID"


class UndecodableImage(InvalidRequest):
    """The bytes are not an image, or a damaged one."""

    reason = "IMAGE_UNDECODABLE"


class UnsupportedFormat(InvalidRequest):
    """An image of a format or colour mode that is not read."""

    reason = "IMAGE_FORMAT_UNSUPPORTED"


class ImageTooLarge(InvalidRequest):
    """More bytes than the server allows."""

    reason = "IMAGE_TOO_LARGE"


class TooManyPixels(InvalidRequest):
    """More pixels than the server allows, or an absurd shape."""

    reason = "IMAGE_TOO_MANY_PIXELS"


class UnclassifiableImage(InvalidRequest):
    """It can be read, but the model fails on it."""

    reason = "IMAGE_UNCLASSIFIABLE"


class ImageUnreachable(InvalidRequest):
    """An image that is given by its URI cannot be fetched."""

    reason = "IMAGE_UNREACHABLE"


class BatchTooLarge(InvalidRequest):
    """More items, or more bytes, than one batch may have."""

    reason = "BATCH_TOO_LARGE"


class NotFound(CategorizerError):
    """What the request names does not exist."""

    reason = "NOT_FOUND"


class ModelNotFound(NotFound):
    """No such model, or no such version of it."""

    reason = "MODEL_NOT_FOUND"


class CategoryNotFound(NotFound):
    """The model has no such category."""

    reason = "CATEGORY_NOT_FOUND"


class BatchNotFound(NotFound):
    """No such batch."""

    reason = "BATCH_NOT_FOUND"


class WebhookNotFound(NotFound):
    """No such webhook."""

    reason = "WEBHOOK_NOT_FOUND"


class DeliveryNotFound(NotFound):
    """The webhook has no such delivery."""

    reason = "DELIVERY_NOT_FOUND"


class RequestIdReused(CategorizerError):
    """Another batch was created with this request id."""

    reason = "REQUEST_ID_REUSED"


class FailedPrecondition(CategorizerError):
    """Not in the state that things are in; someone has to change that first."""

    reason = "FAILED_PRECONDITION"


class ModelFailed(FailedPrecondition):
    """The version does not answer, or cannot be loaded."""

    reason = "MODEL_FAILED"


class ModelInUse(FailedPrecondition):
    """The version is what other requests rely on."""

    reason = "MODEL_IN_USE"


class BatchRunning(FailedPrecondition):
    """The batch has not ended."""

    reason = "BATCH_RUNNING"


class WebhookDisabled(FailedPrecondition):
    """The webhook is not told; enable it first."""

    reason = "WEBHOOK_DISABLED"


class QuotaExceeded(CategorizerError):
    """The tenant has as many of these as it may."""

    reason = "QUOTA_EXCEEDED"


class Unavailable(CategorizerError):
    """Not now; raised after the client's own retries."""

    reason = "UNAVAILABLE"


class Overloaded(Unavailable):
    """As many images wait as may."""

    reason = "QUEUE_FULL"


class DeadlineUnreachable(Unavailable):
    """So much waits already that the answer would come too late."""

    reason = "DEADLINE_UNREACHABLE"


class ModelFailing(Unavailable):
    """The model fails on every image."""

    reason = "MODEL_FAILING"


class ModelLoading(Unavailable):
    """The model is being warmed up."""

    reason = "MODEL_LOADING"


class Draining(Unavailable):
    """The server is stopping."""

    reason = "DRAINING"


class DependencyDown(Unavailable):
    """A part that the server needs does not answer."""

    reason = "DEPENDENCY_DOWN"


class ItemKilledWorkers(CategorizerError):
    """Of one item of a batch: the process that worked on it died, time and again."""

    reason = "ITEM_KILLED_WORKERS"


class ItemKilledServers(CategorizerError):
    """Of one item of a batch: the server died while it had it, time and again."""

    reason = "ITEM_KILLED_SERVERS"


class DeadlineExceeded(CategorizerError):
    """No answer came in time."""

    reason = "DEADLINE_EXCEEDED"
