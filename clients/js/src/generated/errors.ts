// Generated from proto/ by tools/generate.py; do not edit.

import { CategorizerError } from "../failure.js";

/** The caller is unknown. */
export class Unauthenticated extends CategorizerError {
  static override readonly reason: string = "UNAUTHENTICATED";
}

/** No API key was sent. */
export class CredentialsMissing extends Unauthenticated {
  static override readonly reason: string = "CREDENTIALS_MISSING";
}

/** The API key is malformed, unknown, revoked or expired. */
export class CredentialsInvalid extends Unauthenticated {
  static override readonly reason: string = "CREDENTIALS_INVALID";
}

/** The API key's role does not permit this call; the message names the required role. */
export class RoleInsufficient extends CategorizerError {
  static override readonly reason: string = "ROLE_INSUFFICIENT";
}

/** The tenant of the credentials is suspended: ask the operator of the server. */
export class TenantSuspended extends CategorizerError {
  static override readonly reason: string = "TENANT_SUSPENDED";
}

/** The API key is valid, but its `allowedAddresses` do not include the caller's address. */
export class AddressNotAllowed extends CategorizerError {
  static override readonly reason: string = "ADDRESS_NOT_ALLOWED";
}

/** One or more fields are invalid; `violations` names each of them. */
export class InvalidRequest extends CategorizerError {
  static override readonly reason: string = "FIELD_INVALID";
}

/** The bytes are not an image, or the image is damaged. */
export class UndecodableImage extends InvalidRequest {
  static override readonly reason: string = "IMAGE_UNDECODABLE";
}

/** The format or color mode of the image is not supported. */
export class UnsupportedFormat extends InvalidRequest {
  static override readonly reason: string = "IMAGE_FORMAT_UNSUPPORTED";
}

/** The image has more bytes than `Limits.maxImageBytes`. */
export class ImageTooLarge extends InvalidRequest {
  static override readonly reason: string = "IMAGE_TOO_LARGE";
}

/** The image has too many pixels, too long a side, or too extreme a shape; see `Limits`. */
export class TooManyPixels extends InvalidRequest {
  static override readonly reason: string = "IMAGE_TOO_MANY_PIXELS";
}

/** The image was decoded, but the model fails on it. */
export class UnclassifiableImage extends InvalidRequest {
  static override readonly reason: string = "IMAGE_UNCLASSIFIABLE";
}

/** Decoding the image crashes the server's process; servers refuse the image for some time. */
export class CrashingImage extends InvalidRequest {
  static override readonly reason: string = "IMAGE_CRASHES_SERVER";
}

/** The image cannot be fetched from its URI. */
export class ImageUnreachable extends InvalidRequest {
  static override readonly reason: string = "IMAGE_UNREACHABLE";
}

/** The batch has more images or bytes than `Limits` allows, or more URIs than fit a message. */
export class BatchTooLarge extends InvalidRequest {
  static override readonly reason: string = "BATCH_TOO_LARGE";
}

/** The request names something that does not exist. */
export class NotFound extends CategorizerError {
  static override readonly reason: string = "NOT_FOUND";
}

/** There is no such model, or no such version of it. */
export class ModelNotFound extends NotFound {
  static override readonly reason: string = "MODEL_NOT_FOUND";
}

/** The model has no such category. */
export class CategoryNotFound extends NotFound {
  static override readonly reason: string = "CATEGORY_NOT_FOUND";
}

/** There is no such batch. */
export class BatchNotFound extends NotFound {
  static override readonly reason: string = "BATCH_NOT_FOUND";
}

/** There is no such webhook. */
export class WebhookNotFound extends NotFound {
  static override readonly reason: string = "WEBHOOK_NOT_FOUND";
}

/** The webhook has no such delivery. */
export class DeliveryNotFound extends NotFound {
  static override readonly reason: string = "DELIVERY_NOT_FOUND";
}

/** There is no such tenant, or it is being removed. */
export class TenantNotFound extends NotFound {
  static override readonly reason: string = "TENANT_NOT_FOUND";
}

/** There is no such API key. */
export class KeyNotFound extends NotFound {
  static override readonly reason: string = "KEY_NOT_FOUND";
}

/** The image is no example of the category. */
export class ExampleNotFound extends NotFound {
  static override readonly reason: string = "EXAMPLE_NOT_FOUND";
}

/** The documentation has no such page, or is not built. */
export class PageNotFound extends NotFound {
  static override readonly reason: string = "PAGE_NOT_FOUND";
}

/** There is no such feedback. */
export class FeedbackNotFound extends NotFound {
  static override readonly reason: string = "FEEDBACK_NOT_FOUND";
}

/** There is no such stored image. */
export class ImageNotFound extends NotFound {
  static override readonly reason: string = "IMAGE_NOT_FOUND";
}

/** There is no such erasure, or the subject was not erased. */
export class ErasureNotFound extends NotFound {
  static override readonly reason: string = "ERASURE_NOT_FOUND";
}

/** There is no such legal hold. */
export class LegalHoldNotFound extends NotFound {
  static override readonly reason: string = "LEGAL_HOLD_NOT_FOUND";
}

/** Of a batch item: the key of its encrypted result was erased, or is missing. */
export class ResultErased extends NotFound {
  static override readonly reason: string = "RESULT_ERASED";
}

/** There is no such result. */
export class ResultNotFound extends NotFound {
  static override readonly reason: string = "RESULT_NOT_FOUND";
}

/** There is no such upload, or it has expired. */
export class UploadNotFound extends NotFound {
  static override readonly reason: string = "UPLOAD_NOT_FOUND";
}

/** There is a tenant with this id, or the tenant that had it is still being removed. */
export class TenantExists extends CategorizerError {
  static override readonly reason: string = "TENANT_EXISTS";
}

/** The tenant has a category of this name. */
export class CategoryExists extends CategorizerError {
  static override readonly reason: string = "CATEGORY_EXISTS";
}

/** A part does not begin where the upload ends. */
export class UploadOffsetWrong extends CategorizerError {
  static override readonly reason: string = "UPLOAD_OFFSET_WRONG";
}

/** A different batch was created with this request id. */
export class RequestIdReused extends CategorizerError {
  static override readonly reason: string = "REQUEST_ID_REUSED";
}

/** The state of the resource does not permit the call. */
export class FailedPrecondition extends CategorizerError {
  static override readonly reason: string = "FAILED_PRECONDITION";
}

/** The version cannot be loaded, or does not answer. */
export class ModelFailed extends FailedPrecondition {
  static override readonly reason: string = "MODEL_FAILED";
}

/** An alias points to the version, or requests depend on it. */
export class ModelInUse extends FailedPrecondition {
  static override readonly reason: string = "MODEL_IN_USE";
}

/** The model has a promotion policy, and the version has not passed it. */
export class PromotionRefused extends FailedPrecondition {
  static override readonly reason: string = "PROMOTION_REFUSED";
}

/** The result has no receipt, or lacks what one states; the message says what to set. */
export class ReceiptMissing extends FailedPrecondition {
  static override readonly reason: string = "RECEIPT_MISSING";
}

/** The stored image was not classified by the model with `store`. */
export class EmbeddingMissing extends FailedPrecondition {
  static override readonly reason: string = "EMBEDDING_MISSING";
}

/** The batch has not ended. */
export class BatchRunning extends FailedPrecondition {
  static override readonly reason: string = "BATCH_RUNNING";
}

/** What was stored about the subject was erased; allow it first to store it anew. */
export class SubjectErased extends FailedPrecondition {
  static override readonly reason: string = "SUBJECT_ERASED";
}

/** The erasure of the subject is not done; try again some seconds later. */
export class ErasureRunning extends FailedPrecondition {
  static override readonly reason: string = "ERASURE_RUNNING";
}

/** A legal hold keeps what would be removed. */
export class LegallyHeld extends FailedPrecondition {
  static override readonly reason: string = "LEGAL_HOLD";
}

/** The bytes of the upload are not there, or not all. */
export class UploadIncomplete extends FailedPrecondition {
  static override readonly reason: string = "UPLOAD_INCOMPLETE";
}

/** The webhook is disabled; enable it first. */
export class WebhookDisabled extends FailedPrecondition {
  static override readonly reason: string = "WEBHOOK_DISABLED";
}

/**
 * The tenant has the maximum number of these resources, or has used up a quota.
 *
 * If `retryAfterS` is not undefined, the quota is whole again after that time.
 */
export class QuotaExceeded extends CategorizerError {
  static override readonly reason: string = "QUOTA_EXCEEDED";
}

/** The tenant, the API key or the address makes requests too quickly. */
export class RateLimited extends CategorizerError {
  static override readonly reason: string = "RATE_LIMITED";
}

/** The server cannot answer now. Raised after the client's own retries. */
export class Unavailable extends CategorizerError {
  static override readonly reason: string = "UNAVAILABLE";
}

/** The server's queue is full. */
export class Overloaded extends Unavailable {
  static override readonly reason: string = "QUEUE_FULL";
}

/** The queue is so long that the answer would come after the deadline. */
export class DeadlineUnreachable extends Unavailable {
  static override readonly reason: string = "DEADLINE_UNREACHABLE";
}

/** The model fails on every image; the server is loading it again. */
export class ModelFailing extends Unavailable {
  static override readonly reason: string = "MODEL_FAILING";
}

/** The model is not ready yet. */
export class ModelLoading extends Unavailable {
  static override readonly reason: string = "MODEL_LOADING";
}

/** The server is stopping. */
export class Draining extends Unavailable {
  static override readonly reason: string = "DRAINING";
}

/** A database or another dependency of the server does not answer. */
export class DependencyDown extends Unavailable {
  static override readonly reason: string = "DEPENDENCY_DOWN";
}

/** For an item of a batch: it crashed the worker process repeatedly. */
export class ItemKilledWorkers extends CategorizerError {
  static override readonly reason: string = "ITEM_KILLED_WORKERS";
}

/** For an item of a batch: it crashed the server repeatedly. */
export class ItemKilledServers extends CategorizerError {
  static override readonly reason: string = "ITEM_KILLED_SERVERS";
}

/** No answer came within `timeoutS`. */
export class DeadlineExceeded extends CategorizerError {
  static override readonly reason: string = "DEADLINE_EXCEEDED";
}
