"""The errors that a call can raise; the same tree, by the same names, as the server's.

CategorizerError
├─ Unauthenticated         no or bad credentials
│   ├─ CredentialsMissing      no API key was sent
│   └─ CredentialsInvalid      the API key is not valid
├─ RoleInsufficient        the API key's role does not permit this
├─ TenantSuspended         the tenant of the key is suspended
├─ AddressNotAllowed       the API key is not accepted from this address
├─ InvalidRequest          a field is invalid; `violations` names each
│   ├─ UndecodableImage        not an image, or a damaged one
│   ├─ UnsupportedFormat       the image's format is not supported
│   ├─ ImageTooLarge           too many bytes
│   ├─ TooManyPixels           too many pixels, or an extreme shape
│   ├─ UnclassifiableImage     the model fails on this image
│   ├─ CrashingImage           decoding this image crashes the server
│   ├─ ImageUnreachable        the image cannot be fetched from its URI
│   └─ BatchTooLarge           too many images or bytes for one batch
├─ NotFound                the request names something that does not exist
│   ├─ ModelNotFound
│   ├─ CategoryNotFound
│   ├─ BatchNotFound
│   ├─ WebhookNotFound
│   ├─ DeliveryNotFound
│   ├─ ImageNotFound
│   ├─ ErasureNotFound
│   ├─ ExampleNotFound         the image is no example of the category
│   ├─ FeedbackNotFound
│   ├─ KeyNotFound
│   ├─ LegalHoldNotFound
│   ├─ PageNotFound
│   ├─ ResultErased            the key of an encrypted result was erased
│   ├─ ResultNotFound
│   ├─ TenantNotFound
│   └─ UploadNotFound          there is no such upload, or it has expired
├─ RequestIdReused         another batch was created with this request id
├─ TenantExists            the id of the tenant is taken
├─ CategoryExists          the tenant has a category of this name
├─ UploadOffsetWrong       a part does not begin where the upload ends
├─ FailedPrecondition      the state of the resource does not permit this
│   ├─ ModelFailed             the version cannot answer
│   ├─ ModelInUse              other requests depend on the version
│   ├─ PromotionRefused        the version has not passed the model's promotion policy
│   ├─ ReceiptMissing          the result was stored without a receipt
│   ├─ EmbeddingMissing        the model has not seen the stored image
│   ├─ BatchRunning            the batch has not ended
│   ├─ SubjectErased           the subject was erased, and is not allowed again
│   ├─ ErasureRunning          the erasure of the subject is not done
│   ├─ LegallyHeld             a legal hold keeps what would be removed
│   ├─ UploadIncomplete        not all bytes of the upload are there
│   └─ WebhookDisabled         the webhook is disabled
├─ QuotaExceeded           the tenant has the maximum number, or has used up a quota
├─ RateLimited             too many requests; the client has already waited and retried
├─ Unavailable             not now; the client has already retried
│   ├─ Overloaded              the server's queue is full
│   ├─ DeadlineUnreachable     the answer would come too late
│   ├─ ModelFailing            the model fails on every image
│   ├─ ModelLoading            the model is not ready yet
│   ├─ Draining                the server is stopping
│   └─ DependencyDown          a database or another dependency does not answer
├─ ItemKilledWorkers       an item of a batch crashed worker processes
├─ ItemKilledServers       an item of a batch crashed servers
└─ DeadlineExceeded        no answer within `timeout_s`
"""

from typing import ClassVar


class CategorizerError(Exception):
    """The base class. Raised itself for a bug of the server, and if no other class fits."""

    reason: ClassVar[str] = "INTERNAL"
    """The `google.rpc.ErrorInfo.reason` that becomes this class."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        """A text for people; it may change."""
        self.status = ""
        """The name of the gRPC status code, such as `NOT_FOUND`."""
        self.request_id = ""
        """Identifies the request in the server's logs; empty if no server answered."""
        self.violations: list[tuple[str, str]] = []
        """(field, description) of each invalid field."""
        self.retry_after_s: float | None = None
        """Seconds after which the server suggests a retry."""
        self.is_final = False
        """Whether the gateway has repeated the call already, in vain; the client does not."""


class Unauthenticated(CategorizerError):
    """The caller is unknown."""

    reason = "UNAUTHENTICATED"


class CredentialsMissing(Unauthenticated):
    """No API key was sent."""

    reason = "CREDENTIALS_MISSING"


class CredentialsInvalid(Unauthenticated):
    """The API key is malformed, unknown, revoked or expired."""

    reason = "CREDENTIALS_INVALID"


class RoleInsufficient(CategorizerError):
    """The API key's role does not permit this call; the message names the required role."""

    reason = "ROLE_INSUFFICIENT"


class TenantSuspended(CategorizerError):
    """The tenant of the credentials is suspended: ask the operator of the server."""

    reason = "TENANT_SUSPENDED"


class AddressNotAllowed(CategorizerError):
    """The API key is valid, but its `allowed_addresses` do not include the caller's address."""

    reason = "ADDRESS_NOT_ALLOWED"


class InvalidRequest(CategorizerError):
    """One or more fields are invalid; `violations` names each of them."""

    reason = "FIELD_INVALID"


class UndecodableImage(InvalidRequest):
    """The bytes are not an image, or the image is damaged."""

    reason = "IMAGE_UNDECODABLE"


class UnsupportedFormat(InvalidRequest):
    """The format or color mode of the image is not supported."""

    reason = "IMAGE_FORMAT_UNSUPPORTED"


class ImageTooLarge(InvalidRequest):
    """The image has more bytes than `Limits.max_image_bytes`."""

    reason = "IMAGE_TOO_LARGE"


class TooManyPixels(InvalidRequest):
    """The image has too many pixels, too long a side, or too extreme a shape; see `Limits`."""

    reason = "IMAGE_TOO_MANY_PIXELS"


class UnclassifiableImage(InvalidRequest):
    """The image was decoded, but the model fails on it."""

    reason = "IMAGE_UNCLASSIFIABLE"


class CrashingImage(InvalidRequest):
    """Decoding the image crashes the server's process; servers refuse the image for some time."""

    reason = "IMAGE_CRASHES_SERVER"


class ImageUnreachable(InvalidRequest):
    """The image cannot be fetched from its URI."""

    reason = "IMAGE_UNREACHABLE"


class BatchTooLarge(InvalidRequest):
    """The batch has more images or bytes than `Limits` allows, or more URIs than fit a message."""

    reason = "BATCH_TOO_LARGE"


class NotFound(CategorizerError):
    """The request names something that does not exist."""

    reason = "NOT_FOUND"


class ModelNotFound(NotFound):
    """There is no such model, or no such version of it."""

    reason = "MODEL_NOT_FOUND"


class CategoryNotFound(NotFound):
    """The model has no such category."""

    reason = "CATEGORY_NOT_FOUND"


class BatchNotFound(NotFound):
    """There is no such batch."""

    reason = "BATCH_NOT_FOUND"


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    reason = "WEBHOOK_NOT_FOUND"


class DeliveryNotFound(NotFound):
    """The webhook has no such delivery."""

    reason = "DELIVERY_NOT_FOUND"


class TenantNotFound(NotFound):
    """There is no such tenant, or it is being removed."""

    reason = "TENANT_NOT_FOUND"


class TenantExists(CategorizerError):
    """There is a tenant with this id, or the tenant that had it is still being removed."""

    reason = "TENANT_EXISTS"


class CategoryExists(CategorizerError):
    """The tenant has a category of this name."""

    reason = "CATEGORY_EXISTS"


class KeyNotFound(NotFound):
    """There is no such API key."""

    reason = "KEY_NOT_FOUND"


class ExampleNotFound(NotFound):
    """The image is no example of the category."""

    reason = "EXAMPLE_NOT_FOUND"


class PageNotFound(NotFound):
    """The documentation has no such page, or is not built."""

    reason = "PAGE_NOT_FOUND"


class FeedbackNotFound(NotFound):
    """There is no such feedback."""

    reason = "FEEDBACK_NOT_FOUND"


class ImageNotFound(NotFound):
    """There is no such stored image."""

    reason = "IMAGE_NOT_FOUND"


class ErasureNotFound(NotFound):
    """There is no such erasure, or the subject was not erased."""

    reason = "ERASURE_NOT_FOUND"


class LegalHoldNotFound(NotFound):
    """There is no such legal hold."""

    reason = "LEGAL_HOLD_NOT_FOUND"


class ResultErased(NotFound):
    """Of a batch item: the key of its encrypted result was erased, or is missing."""

    reason = "RESULT_ERASED"


class ResultNotFound(NotFound):
    """There is no such result."""

    reason = "RESULT_NOT_FOUND"


class UploadNotFound(NotFound):
    """There is no such upload, or it has expired."""

    reason = "UPLOAD_NOT_FOUND"


class UploadOffsetWrong(CategorizerError):
    """A part does not begin where the upload ends."""

    status = "ABORTED"
    reason = "UPLOAD_OFFSET_WRONG"


class RequestIdReused(CategorizerError):
    """A different batch was created with this request id."""

    reason = "REQUEST_ID_REUSED"


class FailedPrecondition(CategorizerError):
    """The state of the resource does not permit the call."""

    reason = "FAILED_PRECONDITION"


class ModelFailed(FailedPrecondition):
    """The version cannot be loaded, or does not answer."""

    reason = "MODEL_FAILED"


class ModelInUse(FailedPrecondition):
    """An alias points to the version, or requests depend on it."""

    reason = "MODEL_IN_USE"


class PromotionRefused(FailedPrecondition):
    """The model has a promotion policy, and the version has not passed it."""

    reason = "PROMOTION_REFUSED"


class ReceiptMissing(FailedPrecondition):
    """The result has no receipt, or lacks what one states; the message says what to set."""

    reason = "RECEIPT_MISSING"


class EmbeddingMissing(FailedPrecondition):
    """The stored image was not classified by the model with `store`."""

    reason = "EMBEDDING_MISSING"


class BatchRunning(FailedPrecondition):
    """The batch has not ended."""

    reason = "BATCH_RUNNING"


class SubjectErased(FailedPrecondition):
    """What was stored about the subject was erased; allow it first to store it anew."""

    reason = "SUBJECT_ERASED"


class ErasureRunning(FailedPrecondition):
    """The erasure of the subject is not done; try again some seconds later."""

    reason = "ERASURE_RUNNING"


class LegallyHeld(FailedPrecondition):
    """A legal hold keeps what would be removed."""

    reason = "LEGAL_HOLD"


class UploadIncomplete(FailedPrecondition):
    """The bytes of the upload are not there, or not all."""

    reason = "UPLOAD_INCOMPLETE"


class WebhookDisabled(FailedPrecondition):
    """The webhook is disabled; enable it first."""

    reason = "WEBHOOK_DISABLED"


class QuotaExceeded(CategorizerError):
    """The tenant has the maximum number of these resources, or has used up a quota.

    If `retry_after_s` is not None, the quota is whole again after that time.
    """

    reason = "QUOTA_EXCEEDED"


class RateLimited(CategorizerError):
    """The tenant, the API key or the address makes requests too quickly."""

    reason = "RATE_LIMITED"


class Unavailable(CategorizerError):
    """The server cannot answer now. Raised after the client's own retries."""

    reason = "UNAVAILABLE"


class Overloaded(Unavailable):
    """The server's queue is full."""

    reason = "QUEUE_FULL"


class DeadlineUnreachable(Unavailable):
    """The queue is so long that the answer would come after the deadline."""

    reason = "DEADLINE_UNREACHABLE"


class ModelFailing(Unavailable):
    """The model fails on every image; the server is loading it again."""

    reason = "MODEL_FAILING"


class ModelLoading(Unavailable):
    """The model is not ready yet."""

    reason = "MODEL_LOADING"


class Draining(Unavailable):
    """The server is stopping."""

    reason = "DRAINING"


class DependencyDown(Unavailable):
    """A database or another dependency of the server does not answer."""

    reason = "DEPENDENCY_DOWN"


class ItemKilledWorkers(CategorizerError):
    """For an item of a batch: it crashed the worker process repeatedly."""

    reason = "ITEM_KILLED_WORKERS"


class ItemKilledServers(CategorizerError):
    """For an item of a batch: it crashed the server repeatedly."""

    reason = "ITEM_KILLED_SERVERS"


class DeadlineExceeded(CategorizerError):
    """No answer came within `timeout_s`."""

    reason = "DEADLINE_EXCEEDED"
