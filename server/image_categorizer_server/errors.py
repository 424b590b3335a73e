"""Every error that a caller can meet, and the one that a person at the command line can.

    CategorizerError
    ├─ Unauthenticated         UNAUTHENTICATED
    │   ├─ CredentialsMissing      CREDENTIALS_MISSING
    │   └─ CredentialsInvalid      CREDENTIALS_INVALID
    ├─ RoleInsufficient        PERMISSION_DENIED     ROLE_INSUFFICIENT
    ├─ InvalidRequest          INVALID_ARGUMENT      FIELD_INVALID
    │   ├─ UndecodableImage        IMAGE_UNDECODABLE
    │   ├─ UnsupportedFormat       IMAGE_FORMAT_UNSUPPORTED
    │   ├─ ImageTooLarge           IMAGE_TOO_LARGE
    │   ├─ TooManyPixels           IMAGE_TOO_MANY_PIXELS
    │   ├─ UnclassifiableImage     IMAGE_UNCLASSIFIABLE
    │   ├─ ImageUnreachable        IMAGE_UNREACHABLE
    │   └─ BatchTooLarge           BATCH_TOO_LARGE
    ├─ NotFound                NOT_FOUND
    │   ├─ ModelNotFound           MODEL_NOT_FOUND
    │   ├─ CategoryNotFound        CATEGORY_NOT_FOUND
    │   ├─ BatchNotFound           BATCH_NOT_FOUND
    │   ├─ WebhookNotFound         WEBHOOK_NOT_FOUND
    │   └─ DeliveryNotFound        DELIVERY_NOT_FOUND
    ├─ RequestIdReused         ALREADY_EXISTS        REQUEST_ID_REUSED
    ├─ FailedPrecondition      FAILED_PRECONDITION
    │   ├─ ModelFailed             MODEL_FAILED
    │   ├─ ModelInUse              MODEL_IN_USE
    │   ├─ BatchRunning            BATCH_RUNNING
    │   └─ WebhookDisabled         WEBHOOK_DISABLED
    ├─ QuotaExceeded           RESOURCE_EXHAUSTED    QUOTA_EXCEEDED
    ├─ Unavailable             UNAVAILABLE, and when to try again
    │   ├─ Overloaded              QUEUE_FULL
    │   ├─ DeadlineUnreachable     DEADLINE_UNREACHABLE
    │   ├─ ModelFailing            MODEL_FAILING
    │   ├─ ModelLoading            MODEL_LOADING
    │   ├─ Draining                DRAINING
    │   └─ DependencyDown          DEPENDENCY_DOWN
    ├─ DeadlineExceeded        DEADLINE_EXCEEDED     DEADLINE_EXCEEDED
    ├─ ItemKilledWorkers       INTERNAL              ITEM_KILLED_WORKERS
    ├─ ItemKilledServers       INTERNAL              ITEM_KILLED_SERVERS
    └─ (all else)              INTERNAL              INTERNAL: our bug
    OperatorError              never crosses the wire; the command line prints it and exits with 1

`rpc/interceptors.py` turns the tree into `google.rpc.Status`; the SDK turns that back into classes
of the same names.  Messages are written for the caller and hold nothing from inside.
"""

from collections.abc import Sequence
from typing import ClassVar


class CategorizerError(Exception):
    """Expected: the root of all that a caller may be told."""

    status: ClassVar[str] = "INTERNAL"
    """Name of the gRPC status code."""
    reason: ClassVar[str] = "INTERNAL"
    """`google.rpc.ErrorInfo.reason`: stable, for programs to act on."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unauthenticated(CategorizerError):
    """Expected: who calls is not known."""

    status = "UNAUTHENTICATED"
    reason = "CREDENTIALS_INVALID"


class CredentialsMissing(Unauthenticated):
    """Expected: the call carries no credentials."""

    reason = "CREDENTIALS_MISSING"


class CredentialsInvalid(Unauthenticated):
    """Expected: the credentials are malformed, unknown, revoked or expired; not told which."""


class RoleInsufficient(CategorizerError):
    """Expected: the caller is known but its role may not do this."""

    status = "PERMISSION_DENIED"
    reason = "ROLE_INSUFFICIENT"


class InvalidRequest(CategorizerError):
    """Expected: fields are wrong; `violations` holds a (field, description) for each."""

    status = "INVALID_ARGUMENT"
    reason = "FIELD_INVALID"

    def __init__(self, message: str, violations: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.violations = list(violations)

    @classmethod
    def of(cls, violations: Sequence[tuple[str, str]]) -> "InvalidRequest":
        """Returns an error whose message names every violation."""
        return cls("; ".join(f"{field}: {text}" for field, text in violations), violations)


class UndecodableImage(InvalidRequest):
    """Expected: the bytes are no image, or a damaged one."""

    reason = "IMAGE_UNDECODABLE"


class UnsupportedFormat(InvalidRequest):
    """Expected: an image, but of a format or colour mode that is not read."""

    reason = "IMAGE_FORMAT_UNSUPPORTED"


class ImageTooLarge(InvalidRequest):
    """Expected: more bytes than allowed."""

    reason = "IMAGE_TOO_LARGE"


class TooManyPixels(InvalidRequest):
    """Expected: more pixels than allowed, or a shape that no photograph has."""

    reason = "IMAGE_TOO_MANY_PIXELS"


class UnclassifiableImage(InvalidRequest):
    """Expected: it can be read, but the model fails on it where it answers for others."""

    reason = "IMAGE_UNCLASSIFIABLE"


class ImageUnreachable(InvalidRequest):
    """Expected: an image that is given by its URI cannot be fetched; not told from where or why."""

    reason = "IMAGE_UNREACHABLE"


class BatchTooLarge(InvalidRequest):
    """Expected: more items, or more bytes, than one batch may have."""

    reason = "BATCH_TOO_LARGE"


class NotFound(CategorizerError):
    """Expected: what the request names does not exist, or is not the caller's."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"


class ModelNotFound(NotFound):
    """Expected: no such model, or no such version of it."""

    reason = "MODEL_NOT_FOUND"


class CategoryNotFound(NotFound):
    """Expected: the model has no such category."""

    reason = "CATEGORY_NOT_FOUND"


class BatchNotFound(NotFound):
    """Expected: no such batch, or it is another tenant's; not told which."""

    reason = "BATCH_NOT_FOUND"


class WebhookNotFound(NotFound):
    """Expected: no such webhook, or it is another tenant's; not told which."""

    reason = "WEBHOOK_NOT_FOUND"


class DeliveryNotFound(NotFound):
    """Expected: the webhook has no such delivery."""

    reason = "DELIVERY_NOT_FOUND"


class RequestIdReused(CategorizerError):
    """Expected: another batch was created with this request id."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"


class FailedPrecondition(CategorizerError):
    """Expected: not in the state that things are in; someone has to change that first."""

    status = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class ModelFailed(FailedPrecondition):
    """Expected: the version does not answer, or cannot be loaded."""

    reason = "MODEL_FAILED"


class ModelInUse(FailedPrecondition):
    """Expected: the version is what other requests rely on."""

    reason = "MODEL_IN_USE"


class BatchRunning(FailedPrecondition):
    """Expected: the batch has not ended."""

    reason = "BATCH_RUNNING"


class WebhookDisabled(FailedPrecondition):
    """Expected: the webhook is not told; enable it first."""

    reason = "WEBHOOK_DISABLED"


class QuotaExceeded(CategorizerError):
    """Expected: the tenant has as many of these as it may."""

    status = "RESOURCE_EXHAUSTED"
    reason = "QUOTA_EXCEEDED"


class Unavailable(CategorizerError):
    """Expected: not now; the same request may succeed after `retry_after_s` seconds."""

    status = "UNAVAILABLE"
    reason = "UNAVAILABLE"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """Expected: as many images wait as may."""

    reason = "QUEUE_FULL"


class DeadlineUnreachable(Unavailable):
    """Expected: so much waits before it that the answer would come after the deadline."""

    reason = "DEADLINE_UNREACHABLE"


class ModelFailing(Unavailable):
    """Expected: the model fails on every image; it is loaded anew if it goes on."""

    reason = "MODEL_FAILING"


class ModelLoading(Unavailable):
    """Expected: the model exists and is being warmed up."""

    reason = "MODEL_LOADING"


class Draining(Unavailable):
    """Expected: this server is stopping; another one answers."""

    reason = "DRAINING"


class DependencyDown(Unavailable):
    """Expected: a part that the request needs, such as the database, does not answer."""

    reason = "DEPENDENCY_DOWN"


class DeadlineExceeded(CategorizerError):
    """Expected: the caller's deadline, or the server's own, passed first."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class ItemKilledWorkers(CategorizerError):
    """Expected: of one item of a batch; the process that worked on it died, time and again."""

    reason = "ITEM_KILLED_WORKERS"


class ItemKilledServers(CategorizerError):
    """Expected: of one item of a batch; the server died while it had it, time and again."""

    reason = "ITEM_KILLED_SERVERS"


class OperatorError(Exception):
    """Expected: what the person at the command line can mend; one sentence says how."""
