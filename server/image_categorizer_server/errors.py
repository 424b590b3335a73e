"""The errors that callers see. All are expected; anything else raised is a bug.

    CategorizerError
    ├─ Unauthenticated         UNAUTHENTICATED
    │   ├─ CredentialsMissing      CREDENTIALS_MISSING
    │   └─ CredentialsInvalid      CREDENTIALS_INVALID
    ├─ RoleInsufficient        PERMISSION_DENIED     ROLE_INSUFFICIENT
    ├─ TenantSuspended         PERMISSION_DENIED     TENANT_SUSPENDED
    ├─ AddressNotAllowed       PERMISSION_DENIED     ADDRESS_NOT_ALLOWED
    ├─ InvalidRequest          INVALID_ARGUMENT      FIELD_INVALID
    │   ├─ UndecodableImage        IMAGE_UNDECODABLE
    │   ├─ UnsupportedFormat       IMAGE_FORMAT_UNSUPPORTED
    │   ├─ ImageTooLarge           IMAGE_TOO_LARGE
    │   ├─ TooManyPixels           IMAGE_TOO_MANY_PIXELS
    │   ├─ UnclassifiableImage     IMAGE_UNCLASSIFIABLE
    │   ├─ CrashingImage           IMAGE_CRASHES_SERVER
    │   ├─ ImageUnreachable        IMAGE_UNREACHABLE
    │   └─ BatchTooLarge           BATCH_TOO_LARGE
    ├─ NotFound                NOT_FOUND
    │   ├─ ModelNotFound           MODEL_NOT_FOUND
    │   ├─ CategoryNotFound        CATEGORY_NOT_FOUND
    │   ├─ BatchNotFound           BATCH_NOT_FOUND
    │   ├─ WebhookNotFound         WEBHOOK_NOT_FOUND
    │   ├─ DeliveryNotFound        DELIVERY_NOT_FOUND
    │   ├─ ErasureNotFound         ERASURE_NOT_FOUND
    │   ├─ ExampleNotFound         EXAMPLE_NOT_FOUND
    │   ├─ FeedbackNotFound        FEEDBACK_NOT_FOUND
    │   ├─ ImageNotFound           IMAGE_NOT_FOUND
    │   ├─ KeyNotFound             KEY_NOT_FOUND
    │   ├─ LegalHoldNotFound       LEGAL_HOLD_NOT_FOUND
    │   ├─ PageNotFound            PAGE_NOT_FOUND
    │   ├─ ResultErased            RESULT_ERASED
    │   ├─ ResultNotFound          RESULT_NOT_FOUND
    │   ├─ TenantNotFound          TENANT_NOT_FOUND
    │   └─ UploadNotFound          UPLOAD_NOT_FOUND
    ├─ RequestIdReused         ALREADY_EXISTS        REQUEST_ID_REUSED
    ├─ TenantExists            ALREADY_EXISTS        TENANT_EXISTS
    ├─ CategoryExists          ALREADY_EXISTS        CATEGORY_EXISTS
    ├─ UploadOffsetWrong       ABORTED               UPLOAD_OFFSET_WRONG
    ├─ FailedPrecondition      FAILED_PRECONDITION
    │   ├─ ModelFailed             MODEL_FAILED
    │   ├─ ModelInUse              MODEL_IN_USE
    │   ├─ PromotionRefused        PROMOTION_REFUSED
    │   ├─ ReceiptMissing          RECEIPT_MISSING
    │   ├─ EmbeddingMissing        EMBEDDING_MISSING
    │   ├─ SubjectErased           SUBJECT_ERASED
    │   ├─ ErasureRunning          ERASURE_RUNNING
    │   ├─ LegallyHeld             LEGAL_HOLD
    │   ├─ BatchRunning            BATCH_RUNNING
    │   ├─ UploadIncomplete        UPLOAD_INCOMPLETE
    │   └─ WebhookDisabled         WEBHOOK_DISABLED
    ├─ QuotaExceeded           RESOURCE_EXHAUSTED    QUOTA_EXCEEDED
    ├─ RateLimited             RESOURCE_EXHAUSTED    RATE_LIMITED, with the delay before a retry
    ├─ Unavailable             UNAVAILABLE, with the delay before a retry
    │   ├─ Overloaded              QUEUE_FULL
    │   ├─ DeadlineUnreachable     DEADLINE_UNREACHABLE
    │   ├─ ModelFailing            MODEL_FAILING
    │   ├─ ModelLoading            MODEL_LOADING
    │   ├─ Draining                DRAINING
    │   └─ DependencyDown          DEPENDENCY_DOWN
    ├─ DeadlineExceeded        DEADLINE_EXCEEDED     DEADLINE_EXCEEDED
    ├─ ItemKilledWorkers       INTERNAL              ITEM_KILLED_WORKERS
    ├─ ItemKilledServers       INTERNAL              ITEM_KILLED_SERVERS
    └─ (anything else)         INTERNAL              INTERNAL: a bug
    OperatorError              never sent; the command line prints it and exits with 1

`ErrorReason` in proto/image_categorizer/v1/errors.proto describes each reason for callers.
`rpc/status.py` converts an error to `google.rpc.Status`; the SDK converts that to a class of the
same name.  Messages are written for callers and reveal nothing internal.
"""

from collections.abc import Sequence
from typing import ClassVar, Self


class CategorizerError(Exception):
    """The root of all errors that callers see."""

    status: ClassVar[str] = "INTERNAL"
    """Name of the gRPC status code."""
    reason: ClassVar[str] = "INTERNAL"
    """The `google.rpc.ErrorInfo.reason`: the name of an `ErrorReason`."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unauthenticated(CategorizerError):
    """The caller cannot be identified."""

    status = "UNAUTHENTICATED"
    reason = "CREDENTIALS_INVALID"


class CredentialsMissing(Unauthenticated):
    """The call carries no credentials."""

    reason = "CREDENTIALS_MISSING"


class CredentialsInvalid(Unauthenticated):
    """The credentials are malformed, unknown, revoked or expired. Callers do not learn which."""


class RoleInsufficient(CategorizerError):
    """The caller's role does not permit the RPC."""

    status = "PERMISSION_DENIED"
    reason = "ROLE_INSUFFICIENT"


class TenantSuspended(CategorizerError):
    """The tenant of the credentials is suspended."""

    status = "PERMISSION_DENIED"
    reason = "TENANT_SUSPENDED"


class AddressNotAllowed(CategorizerError):
    """The API key is valid, but not at the caller's address."""

    status = "PERMISSION_DENIED"
    reason = "ADDRESS_NOT_ALLOWED"


class InvalidRequest(CategorizerError):
    """Fields are invalid. `violations` holds a (field, description) for each."""

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
    """The bytes are not an image, or the image is damaged."""

    reason = "IMAGE_UNDECODABLE"


class UnsupportedFormat(InvalidRequest):
    """The format or color mode of the image is not supported."""

    reason = "IMAGE_FORMAT_UNSUPPORTED"


class ImageTooLarge(InvalidRequest):
    """The encoded image has too many bytes."""

    reason = "IMAGE_TOO_LARGE"

    @classmethod
    def over(cls, max_bytes: int) -> Self:
        """Returns the error for an image that was not read to its end."""
        return cls(f"the image has more than {max_bytes} bytes")


class TooManyPixels(InvalidRequest):
    """The image has too many pixels, or an extreme shape."""

    reason = "IMAGE_TOO_MANY_PIXELS"


class CrashingImage(InvalidRequest):
    """Decoding the image crashes the process."""

    reason = "IMAGE_CRASHES_SERVER"


class UnclassifiableImage(InvalidRequest):
    """The model fails on this image while it works for others."""

    reason = "IMAGE_UNCLASSIFIABLE"


class ImageUnreachable(InvalidRequest):
    """The image at a URI cannot be fetched. Callers do not learn why."""

    reason = "IMAGE_UNREACHABLE"


class BatchTooLarge(InvalidRequest):
    """The batch has too many items or bytes."""

    reason = "BATCH_TOO_LARGE"


class NotFound(CategorizerError):
    """The request names something that does not exist or belongs to another tenant."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"


class ModelNotFound(NotFound):
    """No such model, or no such version of it."""

    reason = "MODEL_NOT_FOUND"


class CategoryNotFound(NotFound):
    """The model has no such category."""

    reason = "CATEGORY_NOT_FOUND"


class BatchNotFound(NotFound):
    """No such batch, or it belongs to another tenant. Callers do not learn which."""

    reason = "BATCH_NOT_FOUND"


class WebhookNotFound(NotFound):
    """No such webhook, or it belongs to another tenant. Callers do not learn which."""

    reason = "WEBHOOK_NOT_FOUND"


class DeliveryNotFound(NotFound):
    """The webhook has no such delivery."""

    reason = "DELIVERY_NOT_FOUND"


class TenantNotFound(NotFound):
    """No such tenant, or it is being deleted."""

    reason = "TENANT_NOT_FOUND"


class TenantExists(CategorizerError):
    """There is a tenant of this name, or it is not removed yet."""

    status = "ALREADY_EXISTS"
    reason = "TENANT_EXISTS"


class CategoryExists(CategorizerError):
    """The tenant has a category of this name."""

    status = "ALREADY_EXISTS"
    reason = "CATEGORY_EXISTS"


class KeyNotFound(NotFound):
    """The tenant has no such API key."""

    reason = "KEY_NOT_FOUND"


class PageNotFound(NotFound):
    """The documentation has no such page, or is not built."""

    reason = "PAGE_NOT_FOUND"


class ErasureNotFound(NotFound):
    """There is no such erasure, or the subject was not erased."""

    reason = "ERASURE_NOT_FOUND"


class LegalHoldNotFound(NotFound):
    """The tenant has no such legal hold."""

    reason = "LEGAL_HOLD_NOT_FOUND"


class ExampleNotFound(NotFound):
    """The image is no example of the category."""

    reason = "EXAMPLE_NOT_FOUND"


class FeedbackNotFound(NotFound):
    """The tenant has no such feedback."""

    reason = "FEEDBACK_NOT_FOUND"


class ImageNotFound(NotFound):
    """The tenant has no such stored image."""

    reason = "IMAGE_NOT_FOUND"


class ResultErased(NotFound):
    """Of a batch item: the key of its encrypted result was erased, or is missing."""

    reason = "RESULT_ERASED"


class ResultNotFound(NotFound):
    """The tenant has no such result."""

    reason = "RESULT_NOT_FOUND"


class UploadNotFound(NotFound):
    """The tenant has no such upload, or it has expired."""

    reason = "UPLOAD_NOT_FOUND"


class UploadOffsetWrong(CategorizerError):
    """A part does not begin where the upload ends."""

    status = "ABORTED"
    reason = "UPLOAD_OFFSET_WRONG"


class RequestIdReused(CategorizerError):
    """Another batch was created with this request id."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"


class FailedPrecondition(CategorizerError):
    """The system is not in the state that the operation requires."""

    status = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class ModelFailed(FailedPrecondition):
    """The model version cannot be loaded, or it is not serving."""

    reason = "MODEL_FAILED"


class ModelInUse(FailedPrecondition):
    """Requests depend on the model version."""

    reason = "MODEL_IN_USE"


class PromotionRefused(FailedPrecondition):
    """The promotion policy of the model does not allow `stable` to point to the version."""

    reason = "PROMOTION_REFUSED"


class ReceiptMissing(FailedPrecondition):
    """The result has no receipt, or lacks what one states."""

    reason = "RECEIPT_MISSING"


class EmbeddingMissing(FailedPrecondition):
    """No embedding of the stored image by the model is kept."""

    reason = "EMBEDDING_MISSING"


class BatchRunning(FailedPrecondition):
    """The batch has not ended."""

    reason = "BATCH_RUNNING"


class SubjectErased(FailedPrecondition):
    """What was stored about the subject was erased, and it is not allowed again."""

    reason = "SUBJECT_ERASED"


class ErasureRunning(FailedPrecondition):
    """The erasure of the subject is not done."""

    reason = "ERASURE_RUNNING"


class LegallyHeld(FailedPrecondition):
    """A legal hold keeps what would be removed."""

    reason = "LEGAL_HOLD"


class UploadIncomplete(FailedPrecondition):
    """The bytes of the upload are not there, or not all."""

    reason = "UPLOAD_INCOMPLETE"


class WebhookDisabled(FailedPrecondition):
    """The webhook is disabled."""

    reason = "WEBHOOK_DISABLED"


class QuotaExceeded(CategorizerError):
    """The tenant has used up a quota, or has the maximum number of these resources."""

    status = "RESOURCE_EXHAUSTED"
    reason = "QUOTA_EXCEEDED"

    def __init__(self, message: str, retry_after_s: float | None = None, quota: str = "") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """When a quota that is measured by time is whole again; None for others."""
        self.quota = quota
        """Names the setting that limits the tenant; empty if it is none of `QuotaSettings`."""


class RateLimited(CategorizerError):
    """The caller, its tenant or its address makes requests too quickly."""

    status = "RESOURCE_EXHAUSTED"
    reason = "RATE_LIMITED"

    def __init__(self, message: str, retry_after_s: float = 1.0, quota: str = "") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.quota = quota
        """Names the setting that limits the caller."""


class Unavailable(CategorizerError):
    """Temporarily unavailable. A retry may succeed after `retry_after_s` seconds."""

    status = "UNAVAILABLE"
    reason = "UNAVAILABLE"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """The queue of images is full."""

    reason = "QUEUE_FULL"


class DeadlineUnreachable(Unavailable):
    """The queue is so long that the deadline would pass before the answer is ready."""

    reason = "DEADLINE_UNREACHABLE"


class ModelFailing(Unavailable):
    """The model fails on every image. The server reloads it."""

    reason = "MODEL_FAILING"


class ModelLoading(Unavailable):
    """The model exists but is still loading."""

    reason = "MODEL_LOADING"


class Draining(Unavailable):
    """The server is shutting down. Another one answers."""

    reason = "DRAINING"


class DependencyDown(Unavailable):
    """A component that the request needs, such as the database, does not respond."""

    reason = "DEPENDENCY_DOWN"


class DeadlineExceeded(CategorizerError):
    """The caller's deadline, or the server's own, passed first."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class ItemKilledWorkers(CategorizerError):
    """Of a batch item: workers crashed repeatedly while they processed it."""

    reason = "ITEM_KILLED_WORKERS"


class ItemKilledServers(CategorizerError):
    """Of a batch item: servers crashed repeatedly while they classified it."""

    reason = "ITEM_KILLED_SERVERS"


class OperatorError(Exception):
    """A problem that the person at the command line can solve. One sentence says how."""
