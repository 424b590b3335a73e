// Generated from proto/ by tools/generate.py; do not edit.
import type { ItemStatus } from "../failure.js";

/** One event of the audit. The events of a tenant form a chain: each has the hash of the one before it. */
export interface AuditEvent {
  /** The tenant. `_platform` for the chain of events that belong to no tenant. */
  tenantId: string;
  /** The number in the chain: from 1, without gaps. */
  seq: number;
  /** When it happened, in microseconds. */
  time: Date;
  /** Who did it: the id of an API key, the name of a user, or `cli:` and a user of the operating system. Empty for the system itself, and for callers that are not known. */
  actorId: string;
  /** What happened, such as `batch.create`; docs/audit-events.md lists all. */
  action: string;
  /** The name of what it happened to, such as the id of a batch. Empty if there is none. */
  resource: string;
  /** What became of it. */
  outcome: "OK" | "DENIED";
  /** The IP address of the client. Empty if there is none. */
  address: string;
  /** The request. */
  requestId: string;
  /** Further facts, by name; docs/audit-events.md lists them. */
  detail: Record<string, unknown>;
  /** The hash of the event before it: 64 hexadecimal digits. */
  prevHash: string;
  /** The SHA-256 over all other fields: 64 hexadecimal digits. docs/audit.md says of which bytes. */
  hash: string;
}

/** Request for `ListAuditEvents`. */
export interface ListAuditEventsRequest {
  /** The maximum number of events to return, at least 0. Defaults to 100; values above 1000 are reduced to 1000. */
  pageSize?: number | undefined;
  /** The `nextPageToken` of the previous response. Empty for the first page. */
  pageToken?: string | undefined;
  /** If set, only events at this time or later are returned. */
  startTime?: Date | undefined;
  /** If set, only events before this time are returned. */
  endTime?: Date | undefined;
  /** If set, only events of this actor are returned. */
  actorId?: string | undefined;
  /** If set, only events with this action are returned. One that ends with a point stands for all that begin with it: `batch.`. */
  action?: string | undefined;
  /** If set, only events about this resource are returned. */
  resource?: string | undefined;
  /** If set, only events with this outcome are returned. */
  outcome?: "OK" | "DENIED" | undefined;
  /** If set, only events of clients with this IP address are returned. */
  address?: string | undefined;
  /** Whether to read the chain of the platform instead of the tenant's own. Requires the role PLATFORM. */
  platform?: boolean | undefined;
}

/** One page of events. */
export interface ListAuditEventsResponse {
  /** The events, newest first. */
  events: AuditEvent[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** Who calls: what the server makes of the credentials of the call. */
export interface Caller {
  /** The id of the API key; for access tokens and people, the name of the issuer, a colon, and the claim `sub`. */
  actorId: string;
  /** The tenant. */
  tenantId: string;
  /** The role: `viewer`, `classifier`, `operator`, `admin`, `platform` or `worker`. */
  role: string;
  /** What the credentials are limited to, such as `batches:read`. Empty: everything that the role permits. */
  scopes: string[];
}

/** A key with which programs call the API. */
export interface ApiKey {
  /** Identifies the key. Not secret. */
  keyId: string;
  /** What people call the key. */
  name: string;
  /** The role: `viewer`, `classifier`, `operator`, `admin`, `worker` or `platform`. */
  role: string;
  /** The scopes that the key is limited to, such as `batches:read`. Empty: everything that the role permits. */
  scopes: string[];
  /** Whether the key is accepted. */
  state: "ACTIVE" | "EXPIRED" | "REVOKED";
  /** The first characters of the secret, to recognize the key by. */
  prefix: string;
  /** The networks from which the key is accepted, such as `192.0.2.0/24` or `2001:db8::/32`. Empty: all. A caller on the server's own machine that uses its unix socket has the address `127.0.0.1`. */
  allowedAddresses: string[];
  /** When the key was created. */
  createTime: Date;
  /** When the key stops being accepted. Absent: never. */
  expireTime?: Date | undefined;
  /** When the key was revoked. Absent: it was not. */
  revokeTime?: Date | undefined;
  /** When the key was last accepted, to about a minute. Absent: never. */
  lastUseTime?: Date | undefined;
  /** When the secret before the last rotation stops being accepted. Absent: none is. */
  previousSecretExpireTime?: Date | undefined;
  /** Who created the key: the `keyId` of another key, or the name of a user. Empty: the command line. */
  createdBy: string;
  /** The secret, which calls carry as `authorization: Bearer ic_...`. Only set in responses of `CreateApiKey` and `RotateApiKey`. */
  secret: string;
}

/** Request for `CreateApiKey`. */
export interface CreateApiKeyRequest {
  /** What people call the key, 1 to 128 printable characters. Required. */
  name?: string | undefined;
  /** The role: `viewer`, `classifier`, `operator`, `admin`, `worker` or `platform`. At most that of the caller; `worker`, which acts for all tenants, only by the role `platform`. Required. */
  role?: string | undefined;
  /** The scopes that the key is limited to, such as `batches:read`. A caller with scopes must name some of its own. Empty: everything that the role permits. */
  scopes?: string[] | undefined;
  /** The networks from which the key is accepted, in CIDR notation, or single addresses; at most 100. Empty: all. */
  allowedAddresses?: string[] | undefined;
  /** When the key stops being accepted, in the future. Absent: never. */
  expireTime?: Date | undefined;
}

/** One page of API keys. */
export interface ListApiKeysResponse {
  /** The keys, oldest first. */
  keys: ApiKey[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** Request for `UpdateApiKey`. */
export interface UpdateApiKeyRequest {
  /** The key. Required. */
  keyId?: string | undefined;
  /** The new name, 1 to 128 printable characters. */
  name?: string | undefined;
  /** The new role, at most that of the caller; see `CreateApiKeyRequest`. */
  role?: string | undefined;
  /** The new scopes, if any are listed. */
  scopes?: string[] | undefined;
  /** The new networks from which the key is accepted, if any are listed; at most 100. */
  allowedAddresses?: string[] | undefined;
  /** When the key stops being accepted, in the future. */
  expireTime?: Date | undefined;
  /** Fields to empty: `scopes`, `allowedAddresses`, `expireTime`. */
  clear?: string[] | undefined;
}

/** Keeps an image, all of a subject, or all of the tenant from being removed: by retention, by deletion, by erasure. */
export interface LegalHold {
  /** Identifies the hold. */
  holdId: string;
  /** The image that is held. Empty: another kind of hold. */
  imageId: string;
  /** The keyed hash of the subject that is held: 32 hexadecimal digits. Empty: another kind of hold. */
  subjectKey: string;
  /** Whether all of the tenant is held. */
  wholeTenant: boolean;
  /** What the caller wrote, such as the number of a case. */
  reference: string;
  /** Since when. */
  createTime: Date;
  /** Until when. Absent while it holds. */
  endTime?: Date | undefined;
}

/** Response to `ListLegalHolds`. */
export interface ListLegalHoldsResponse {
  /** The holds, also those that have ended. */
  holds: LegalHold[];
  /** The `pageToken` of the next page. Empty if there is none. */
  nextPageToken: string;
}

/** How long data of a class is kept. */
export interface RetentionRule {
  /** The class. */
  dataClass?: "IMAGES" | "RESULTS" | "BATCHES" | "DELIVERIES" | "AUDIT" | undefined;
  /** The number of days, at most 36500; 0: for ever. Of AUDIT, 0 or at least 30. In requests, absent for the default of the server. */
  days?: number | undefined;
  /** Whether it is the default of the server, rounded up to whole days. Ignored in requests. */
  isDefault?: boolean | undefined;
}

/** How long the data of a tenant is kept. */
export interface Retention {
  /** A rule for each class. */
  rules: RetentionRule[];
}

/** What retention would remove now. */
export interface RetentionPreview {
  /** A forecast for each class. */
  forecasts: RetentionForecast[];
}

/** What retention would remove of a class now. */
export interface RetentionForecast {
  /** The rule. */
  rule: RetentionRule;
  /** How many images, results, batches, messages or events would go. */
  count: number;
  /** Their size, in bytes: of images and batches that of the stored images, otherwise that of the rows. An image that a batch shares with others is counted each time. */
  sizeBytes: number;
  /** The time of the oldest one that would go. Absent if none would. */
  oldestTime?: Date | undefined;
  /** How many are old enough, but stay because of a legal hold. */
  heldCount: number;
}

/**
 * What the process that answers has counted since its start. Counts only grow: the difference of two answers with the same `processId` is what happened between them.
 *
 * An installation with several servers answers with one of them; Prometheus, which reads `/metrics` of each, sees all.
 */
export interface ServerStatistics {
  /** Names the process, until it ends. */
  processId: string;
  /** The release that runs. */
  release: string;
  /** When the process started to count. */
  startTime: Date;
  /** When it was asked. */
  readTime: Date;
  /** Calls that are being served, this one included. */
  inFlightCount: number;
  /** Calls that have ended, by method and gRPC status. */
  calls: CallCount[];
  /** Calls that failed, by `ErrorReason`. */
  errors: LabelCount[];
  /** Looks into the result cache: `HIT`, `MISS`, or `DOWN` if it did not answer. */
  cacheLookups: LabelCount[];
  /** By how many seconds the event loop was late, measured several times a second. */
  eventLoopLagS: Distribution;
  /** The models that have seen an image. */
  models: ModelStatistics[];
  /** What the caller's tenant has in its queues. */
  pending: PendingWork;
}

/** Calls of one method that ended with one status. */
export interface CallCount {
  /** Such as `/imageCategorizer.v1.ClassifyService/Classify`. */
  method: string;
  /** The gRPC status, such as `OK`. */
  code: string;
  /** How many. */
  count: number;
}

/** How often something with a name happened. */
export interface LabelCount {
  /** The name. */
  label: string;
  /** How often. */
  count: number;
}

/** How often a value was in each range. */
export interface Distribution {
  /** The upper bound of each range but the last, ascending; a value at a bound belongs to the range below. */
  upperBounds: number[];
  /** How many values each range has: one more than bounds, as the last range has none. Empty without a value. */
  counts: number[];
  /** The sum of all values. */
  sum: number;
}

/** What a version of a model does. */
export interface ModelStatistics {
  /** Name of the model. */
  model: string;
  /** Version of the model. */
  version: string;
  /** Images between their arrival at the micro-batcher and their outcome. */
  queueDepth: number;
  /** Images that have left the micro-batcher, by outcome: `OK`, an `ErrorReason`, or `CANCELLED` if the caller has gone. */
  images: LabelCount[];
  /** Images that nobody waits for any more, by the stage that they waited for. */
  droppedImages: LabelCount[];
  /** Calls of the model, by what closed the micro-batch. */
  executions: LabelCount[];
  /** Images of a micro-batch. */
  microBatchImages: Distribution;
  /** Seconds that an image waits, for a decoder and for its micro-batch. */
  queueS: Distribution;
  /** Seconds to decode and preprocess an image. */
  decodeS: Distribution;
  /** Seconds of a call of the model, with one micro-batch. */
  inferenceS: Distribution;
}

/** Work of a tenant that is not finished. */
export interface PendingWork {
  /** Chunks of batches. */
  chunkCount: number;
  /** Messages that are not handed over yet. */
  messageCount: number;
  /** Deliveries of webhooks. */
  deliveryCount: number;
}

/** The removal of all that is stored about a subject, and what keeps the subject from being stored again. */
export interface Erasure {
  /** Identifies the erasure. */
  erasureId: string;
  /** The keyed hash of the subject: 32 hexadecimal digits. The name of the subject is not kept. */
  subjectKey: string;
  /** How far the erasure is. */
  state: "RUNNING" | "DONE";
  /** What was removed so far, by table or store. */
  removed: RemovedCount[];
  /** What the server states about the erasure: JSON, signed with Ed25519 by the key that signs the statements about the audit. Its `signature` is empty if the server has no such key. Empty until the erasure is DONE. */
  certificate: string;
  /** When the erasure was asked for. */
  createTime: Date;
  /** When nothing was left. Absent until the erasure is DONE. */
  endTime?: Date | undefined;
  /** When the subject was allowed again. Absent while nothing of it is stored. */
  allowTime?: Date | undefined;
}

/** How much an erasure removed from one table or store. */
export interface RemovedCount {
  /** The table or the store. */
  place: string;
  /** How many rows, objects, bytes or entries. */
  count: number;
}

/** Response to `ListErasures`. */
export interface ListErasuresResponse {
  /** The erasures. */
  erasures: Erasure[];
  /** The `pageToken` of the next page. Empty if there is none. */
  nextPageToken: string;
}

/** An owner of keys, batches, webhooks and images. Tenants do not see each other. */
export interface Tenant {
  /** Identifies the tenant. */
  tenantId: string;
  /** The name for people. May be empty. */
  displayName: string;
  /** Whether the tenant's credentials are accepted. */
  state: "ACTIVE" | "SUSPENDED" | "DELETING";
  /** When the tenant was created. */
  createTime: Date;
  /** When the tenant was deleted. Absent unless DELETING. */
  deleteTime?: Date | undefined;
  /** The limits that hold for the tenant instead of those of the server's settings. */
  limits: TenantLimits;
}

/** Limits of one tenant. Those that are not set are those of the server's settings. 0 is no limit. */
export interface TenantLimits {
  /** Requests per second, all API keys together. */
  requestsPerS?: number | undefined;
  /** Requests at once, after a pause. */
  requestBurst?: number | undefined;
  /** Requests per second of each API key. */
  keyRequestsPerS?: number | undefined;
  /** Requests at once of each API key, after a pause. */
  keyRequestBurst?: number | undefined;
  /** Images from midnight to midnight, UTC. */
  imagesPerDay?: number | undefined;
  /** Batches that have not ended. */
  concurrentBatches?: number | undefined;
  /** Bytes of the images of all batches, and of the stored images. */
  storedBytes?: number | undefined;
}

/** One page of tenants. */
export interface ListTenantsResponse {
  /** The tenants, by id. */
  tenants: Tenant[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** Request for `UpdateTenant`. */
export interface UpdateTenantRequest {
  /** The tenant. Required. */
  tenantId?: string | undefined;
  /** The new name for people, at most 128 characters. Does not change if it is not set. */
  displayName?: string | undefined;
  /** The new limits, all of them: those that are not set in it are those of the settings again. Do not change if it is not set. */
  limits?: TenantLimits | undefined;
}

/** Request for `GetUsage`. */
export interface GetUsageRequest {
  /** The first day, in UTC, such as `2026-03-01`. Defaults to 30 days that end with the last one. */
  startDate?: string | undefined;
  /** The last day, in UTC. Defaults to today. */
  endDate?: string | undefined;
  /** By what usage is summed up: `day`, `key` or `model`. Defaults to `day`. */
  groupBy?: string | undefined;
}

/** The usage of a tenant. */
export interface GetUsageResponse {
  /** The first day. */
  startDate: string;
  /** The last day. */
  endDate: string;
  /** One row for each group that has any usage: days in their order, keys by their images and models by their time, the most first; at most 10,000. */
  rows: UsageRow[];
  /** The sum of the rows, without group. */
  total: UsageRow;
}

/** What one group has used. */
export interface UsageRow {
  /** The day, in UTC, if usage is summed up by day. */
  day: string;
  /** The API key, or the user of a token, if usage is summed up by key. */
  keyId: string;
  /** The name of the model, if usage is summed up by model. Empty for images of batches that failed before the model was known. */
  model: string;
  /** The images that were answered, with a classification or with an error about the image. Calls that were refused because of limits, overload or credentials do not count. */
  images: number;
  /** The images that the result cache answered. */
  cachedImages: number;
  /** The images that have an error. */
  failedImages: number;
  /** The size of the encoded images. */
  bytes: number;
  /** The milliseconds of the model. All images of a micro-batch have an equal share of its time. */
  modelMs: number;
}

/** A URL that is notified when a batch ends. */
export interface Webhook {
  /** Identifies the webhook. */
  webhookId: string;
  /** The URL. Empty for the webhook `default`. */
  url: string;
  /** Whether the webhook is notified. */
  state: "ENABLED" | "DISABLED" | "GONE";
  /** The secret that signs messages: `whsec_` and base64 of 32 bytes. Only set in responses of `CreateWebhook` and `RotateWebhookSecret`. */
  secret: string;
  /** When messages stop carrying the signature of the previous secret. Absent if there is none. */
  previousSecretExpireTime?: Date | undefined;
  /** When the webhook was created. */
  createTime: Date;
}

/** The delivery of one message to one webhook. */
export interface WebhookDelivery {
  /** Identifies the delivery. The `webhook-id` of its message. */
  deliveryId: string;
  /** The webhook that signs the message. */
  webhookId: string;
  /** The type of the message: `batch.completed`, `batch.failed`, `batch.cancelled` or `classification.done`. */
  eventType: string;
  /** The batch. Empty for `classification.done`. */
  batchId: string;
  /** The receiver: the URL of the webhook, or the `webhookUrl` of the request. */
  url: string;
  /** The state of the delivery. */
  state: "PENDING" | "DELIVERED" | "FAILED";
  /** When the next attempt is due. Absent unless PENDING. */
  nextAttemptTime?: Date | undefined;
  /** The number of attempts since the delivery was created, or since `RedeliverWebhook`. */
  attemptCount: number;
  /** The attempts, newest first, at most 20. */
  attempts: WebhookAttempt[];
  /** When the delivery was created. */
  createTime: Date;
  /** When the delivery succeeded or was given up. Absent while PENDING. */
  endTime?: Date | undefined;
}

/** One attempt to deliver a message. */
export interface WebhookAttempt {
  /** When the attempt started. */
  startTime: Date;
  /** How long it took, in milliseconds. */
  durationMs: number;
  /** The HTTP status of the response. 0 if there was none. */
  statusCode: number;
}

/** One page of webhooks. */
export interface ListWebhooksResponse {
  /** The webhooks: `default` first, then oldest first. */
  webhooks: Webhook[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** Request for `UpdateWebhook`. */
export interface UpdateWebhookRequest {
  /** The webhook. Required. */
  webhookId?: string | undefined;
  /** The new URL, also for pending deliveries. Not for the webhook `default`. */
  url?: string | undefined;
  /** Whether the webhook is notified. */
  enabled?: boolean | undefined;
}

/** Response of `DeleteWebhook`. */
export interface DeleteWebhookResponse {
}

/** One page of deliveries. */
export interface ListWebhookDeliveriesResponse {
  /** The deliveries, newest first. */
  deliveries: WebhookDelivery[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** A category assigned to an image, with its confidence. */
export interface Prediction {
  /** The name of the category, as in the model's list of categories; or with `ClassifyOptions.rollUp` a broader category, or `UNKNOWN`. */
  category: string;
  /** The probability of the category, in [0, 1]. A softmax over all categories, or a sigmoid if the categories are not mutually exclusive. See `Model.activation`, and for broader categories `ClassifyOptions.rollUp`. */
  confidence: number;
  /** Where the image shows the category: `[xMin, yMin, xMax, yMax]` in pixels of the upright image. The right and bottom edges are exclusive. Empty (`[]` over REST) unless `ClassifyOptions.boundingBoxes` requests it and the model supports it (`Model.localization`). With several boxes, the strongest. */
  boundingBox: number[];
  /** A stable identifier that does not change when categories are renamed. For ImageNet categories, a WordNet synset such as `n02084071`. Empty if the model defines none. */
  categoryId: string;
  /** Broader categories, nearest first. A category with two parents has those above both. Empty if the model has no taxonomy. */
  ancestors: string[];
  /** The confidence before calibration, as the network gives it, in [0, 1]. Computed like `confidence` for broader categories, and 0 for `UNKNOWN`. Equal to `confidence` if the model version has no temperature (`image-categorizer models calibrate`). Absent unless `ClassifyOptions.rawConfidence` requests it. */
  rawConfidence?: number | undefined;
  /** One box for each object of the category that was found, the strongest first. Objects that touch may share a box. Those of a detector reach `ClassifyOptions.confidenceThreshold`, or 0.5 where that is not set, but the first, and there are at most 100. Empty where `boundingBox` is. */
  boundingBoxes: BoundingBox[];
  /** Where the prediction comes from. Absent if it is the model's own. */
  source?: "CORRECTION" | "OWN_CATEGORY" | undefined;
}

/** A stored image, and how similar it is. */
export interface Neighbour {
  /** The stored image. */
  imageId: string;
  /** The cosine of the angle between the embeddings, in [-1, 1]. */
  similarity: number;
}

/** A rectangle in pixels of the upright image, at least one pixel wide and high. */
export interface BoundingBox {
  /** The left edge, at least 0. */
  xMin: number;
  /** The top edge, at least 0. */
  yMin: number;
  /** The right edge, exclusive: at most the width of the image. */
  xMax: number;
  /** The bottom edge, exclusive: at most the height of the image. */
  yMax: number;
}

/** The exact model version that produced a result. */
export interface ModelRef {
  /** The name of the model. */
  name: string;
  /** The version number, starting at 1. */
  version: string;
  /** `sha256:` and 64 hexadecimal digits, computed over the model's files. Two results with the same digest come from the same weights, categories and preprocessing. */
  digest: string;
}

/** How long each stage of a classification took. */
export interface Timing {
  /** Time to decode and preprocess the image, in milliseconds. */
  decodeMs: number;
  /** Time that the image waited for a decoder and for its micro-batch, in milliseconds. */
  queueMs: number;
  /** Duration of the model call, shared by the whole micro-batch, in milliseconds. With bounding boxes, includes the call with the whole picture. */
  inferenceMs: number;
  /** The number of images in the micro-batch, at least 1. */
  batchSize: number;
  /** Why the micro-batch was sent when it was. */
  batchCloseReason: "IDLE" | "FULL" | "DEADLINE" | "DELAY";
}

/** How to classify an image. */
export interface ClassifyOptions {
  /** The model. Defaults to `ServerInfo.defaultModel`. */
  model?: string | undefined;
  /** The version of the model: a number, or an alias such as `stable`. Defaults to `stable` if the model has that alias, otherwise to the newest version that is loaded. */
  version?: string | undefined;
  /** The minimum confidence of a returned prediction, in [0, 1]. Defaults to 0. If no prediction reaches it, the response has no predictions; that is not an error. With `rollUp`, see there. */
  confidenceThreshold?: number | undefined;
  /** The maximum number of predictions, at least 1. Values above the number of categories return all of them. Defaults to 5. */
  topK?: number | undefined;
  /** If set, only these categories are returned. A broader category (`Category.ancestors`) means itself and all categories below it. Confidences are still those over all categories. At most `Limits.maxFilterCategories` names, spelled as in `ListCategories`. */
  includeCategories?: string[] | undefined;
  /** Categories that are not returned. A broader category means itself and all categories below it. Applied after `includeCategories`. At most `Limits.maxFilterCategories` names. */
  excludeCategories?: string[] | undefined;
  /** Whether to return where the image shows each predicted category (`Prediction.boundingBox`). */
  boundingBoxes?: boolean | undefined;
  /** Whether to return a heat map of what led to the best prediction (`ClassifyResponse.heatMap`). A detector (`Model.localization`) has none: the request is refused with `FIELD_INVALID`. */
  explain?: boolean | undefined;
  /** Whether to classify the image even if the result for the same bytes, model and options is cached. */
  noCache?: boolean | undefined;
  /**
   * Whether to answer at the level that the model is sure of. The first prediction is then the deepest category whose confidence reaches `confidenceThreshold`, which defaults to 0.8 (a setting of the server): `tabby`, else `cat`, else `animal`. If none reaches it, the only prediction is `UNKNOWN`, with confidence 0. If several do that are not above one another, the most confident is the first.
   *
   * The confidence of a broader category is the sum over the model's categories below it, or their maximum if these are not mutually exclusive (`Model.activation`). The other predictions, up to `topK` in all, are the model's categories below the first one; the threshold does not apply to them. A broader category's bounding box, and the heat map, are those of its most confident category below.
   *
   * Defaults to the model's own setting, otherwise to the server's, which is false.
   */
  rollUp?: boolean | undefined;
  /** Whether each prediction also has the confidence before calibration (`Prediction.rawConfidence`). It changes nothing else: threshold, order and `rollUp` go by `Prediction.confidence`. */
  rawConfidence?: boolean | undefined;
  /** Whether to keep the image and the result (`ImageService`). Needs the scope `images:write`, too. An image that cannot be classified is not kept. */
  store?: boolean | undefined;
  /** Whose image it is, at most 128 characters; see `UploadImageRequest.subjectId`. */
  subjectId?: string | undefined;
  /** Rectangles to blur in what is kept; see `UploadImageRequest.blur`. The whole image is classified. Needs `store`; not for stored images, streams and batches. No embedding is kept: it would know what is blurred. */
  blur?: string[] | undefined;
}

/** The result for one image. */
export interface ClassifyResponse {
  /** Always true. Failures are errors, not responses. */
  success: boolean;
  /** The predictions, most confident first; a correction precedes those of the model. Empty if none reaches the threshold or passes the filters; then `UNKNOWN` with `ClassifyOptions.rollUp`. */
  predictions: Prediction[];
  /** Time from the arrival of the request at the server to this response, in seconds. */
  processingTimeS: number;
  /** The model version that produced the result. */
  model: ModelRef;
  /** How long each stage took. If `cache` is HIT, of the request that was cached. */
  timing: Timing;
  /** Identifies the request in the server's logs. The value of the header `x-request-id` if the request has one. */
  requestId: string;
  /** Whether the result comes from the cache. */
  cache?: "HIT" | "MISS" | undefined;
  /** The upright image, at most 1024 pixels on each side, with the regions that led to the best prediction in warm colors, as a PNG file. Empty (`""` over REST) unless `ClassifyOptions.explain` requests it and the model supports it (`Model.localization`). */
  heatMap?: Uint8Array | undefined;
  /** What is wrong with the image. Empty for nearly all images. */
  warnings: "TRUNCATED"[];
  /** The image that was kept. Empty unless `ClassifyOptions.store` asks for it. */
  imageId: string;
  /** The result that was kept with it. Empty unless `ClassifyOptions.store` asks for it. */
  resultId: string;
  /** The stored images whose feedback corrected the answer, or the examples of the tenant's category, the most similar first. Empty unless the first prediction has a `source`. */
  neighbours: Neighbour[];
}

/** Many images that are classified together. */
export interface Batch {
  /** Identifies the batch. */
  batchId: string;
  /** The state of the batch. */
  state: "QUEUED" | "RUNNING" | "COMPLETED" | "CANCELLING" | "CANCELLED" | "FAILED";
  /** Why the state is FAILED, for people. Empty otherwise. */
  stateMessage: string;
  /** The number of images. */
  itemCount: number;
  /** The number of items that were classified. */
  succeededCount: number;
  /** The number of items that failed. */
  failedCount: number;
  /** The number of items without an outcome. */
  pendingCount: number;
  /** When the batch was created. */
  createTime: Date;
  /** When the first item started. Absent before. */
  startTime?: Date | undefined;
  /** When the batch ended. Absent before. */
  endTime?: Date | undefined;
  /** How the images are classified. */
  options: ClassifyOptions;
  /** The URL that is notified when the batch ends. Empty if none. */
  webhookUrl: string;
  /** The first failures by item, at most 20. */
  failures: BatchFailure[];
  /** The current throughput, in items per second. 0 unless RUNNING. */
  itemsPerS: number;
  /** The estimated time to the end at the current throughput. Absent unless RUNNING. */
  remainingTimeS?: number | undefined;
  /** The number of files in uploaded zip files that became no items, because operating systems add them to folders: `.DS_Store`, `._*`, `__MACOSX/`, `Thumbs.db`, `desktop.ini`, `@eaDir/`. */
  ignoredCount: number;
}

/** The failure of one item. */
export interface BatchFailure {
  /** The item. */
  itemId: string;
  /** The name of the file, as uploaded. */
  filename: string;
  /** Why the item failed. Code, message and details are those of a failed `Classify` call. */
  status: ItemStatus;
}

/** The configuration of a batch. */
export interface BatchConfig {
  /** How to classify the images. */
  options?: ClassifyOptions | undefined;
  /** An https URL that is notified when the batch ends. Optional. */
  webhookUrl?: string | undefined;
  /** Makes the call idempotent: 1 to 64 characters, chosen by the client. If a batch was already created with the same value, it is returned and no other is created (AIP-155). Remembered for at least 24 hours. Optional. */
  requestId?: string | undefined;
  /** The priority among the tenant's batches, from -10 to 10. Higher values run first. Defaults to 0. */
  priority?: number | undefined;
}

/** One page of batches. */
export interface ListBatchesResponse {
  /** The batches, newest first. */
  batches: Batch[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** Response of `DeleteBatch`. */
export interface DeleteBatchResponse {
}

/** One page of results. */
export interface ListBatchResultsResponse {
  /** The results that exist, by item. */
  results: BatchResult[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page that exists now; more results may follow while the batch runs. */
  nextPageToken: string;
}

/** The outcome of one item. */
export interface BatchResult {
  /** The item: its number in the batch, starting at 0. */
  itemId: string;
  /** The name of the file, as uploaded. */
  filename: string;
  /** Code 0, or why the item failed. Code, message and details are those of a failed `Classify` call. */
  status: ItemStatus;
  /** The result. Absent if the item failed. */
  classification?: BatchClassification | undefined;
}

/** The result of one item. */
export interface BatchClassification {
  /** The predictions, most confident first. */
  predictions: Prediction[];
  /** The model version that produced the result. */
  model: ModelRef;
  /** What is wrong with the image. Empty for nearly all images. */
  warnings: "TRUNCATED"[];
}

/** The current state of a batch. */
export interface WatchBatchResponse {
  /** The batch. */
  batch: Batch;
  /** Whether this is the last message: the batch has ended. */
  done: boolean;
}

/** A category of the tenant. */
export interface OwnCategory {
  /** Its name. */
  category: string;
  /** How many examples it has, without those from feedback. */
  exampleCount: number;
  /** The images of its examples, the newest first: at most 1000. Empty in lists. */
  imageIds: string[];
  /** When it was created. */
  createTime: Date;
}

/** One page of the tenant's categories. */
export interface ListOwnCategoriesResponse {
  /** The categories, by name. */
  categories: OwnCategory[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** Response of `RemoveCategoryExample`. */
export interface RemoveCategoryExampleResponse {
}

/** Response of `DeleteCategory`. */
export interface DeleteCategoryResponse {
}

/** The result of a comparison on examples that neither head has seen. */
export interface HeadTrial {
  /** When it took place. */
  createTime: Date;
  /** How many examples were held out, each once. */
  totalCount: number;
  /** How many the new logistic regression has right. */
  rightCount: number;
  /** How many the head that decided before has right. */
  baselineRightCount: number;
  /** Whether the new head decides now. */
  promoted: boolean;
  /** Why it was not promoted. Empty if it was. */
  refusal: string;
}

/** What decides between the tenant's categories, for one model version. */
export interface CategoryHead {
  /** The model version. */
  model: ModelRef;
  /** What decides now. */
  kind: "MEANS" | "LINEAR";
  /** How many examples it knows. */
  exampleCount: number;
  /** Whether the head is to be fitted again: examples have changed. */
  fitting: boolean;
  /** The last comparison. Absent if there was none, or it was of examples that have been removed. */
  trial?: HeadTrial | undefined;
}

/** Request for `GetDrift`. */
export interface GetDriftRequest {
  /** The name of the model. Required. */
  model?: string | undefined;
  /** The version: a number or an alias. Defaults to the version that serves requests without a version. */
  version?: string | undefined;
  /** The last day of the window, in UTC, such as `2026-03-01`. Defaults to today. */
  endDate?: string | undefined;
  /** The number of days of the window, at most 7. Defaults to 1. A window with fewer than 100 images grows by the days before it, up to 7 in all. */
  windowDays?: number | undefined;
  /** The first day of the reference. Defaults to 30 days before `endDate`. */
  referenceStartDate?: string | undefined;
  /** The last day of the reference. Defaults to 7 days before `endDate`. It must be before the window. */
  referenceEndDate?: string | undefined;
}

/**
 * How what a model predicts in a window differs from a reference, in the caller's tenant.
 *
 * The measure is the population stability index: the sum of (p - q) ln(p / q) over all buckets, where p and q are the shares of a bucket in the window and in the reference. It is 0 for equal distributions.
 */
export interface Drift {
  /** The name of the model. */
  model: string;
  /** The version number. */
  version: string;
  /** What the larger of the indices means. */
  state: "NOT_ENOUGH_IMAGES" | "STABLE" | "MODERATE" | "SHIFTED";
  /** The population stability index of the first categories. 0 if there are not enough images. */
  categoryIndex: number;
  /** That of their confidences, in 10 ranges; in 5 if there are few images. */
  confidenceIndex: number;
  /** The days that are compared. */
  window: DriftPeriod;
  /** The days that they are compared with. */
  reference: DriftPeriod;
  /** The most frequent categories of the reference, and the others together. There are at most 20, and fewer if there are few images, so that chance alone makes an index of at most about 0.05. */
  categories: DriftBucket[];
  /** The ranges of the confidence of the first category. */
  confidences: DriftBucket[];
}

/** Days, and how many images were counted in them. */
export interface DriftPeriod {
  /** The first day, in UTC. */
  startDate: string;
  /** The last day. */
  endDate: string;
  /** The images that were classified, also those of which nothing is stored. Those whose request filters categories do not count. */
  images: number;
}

/** The share of a category, or of a range of confidences. */
export interface DriftBucket {
  /** A category; `other` for all other categories; empty for images without a prediction. Or a range of confidences, such as `0.3-0.4`. */
  name: string;
  /** The share in the window, in [0, 1]. */
  windowShare: number;
  /** The share in the reference, in [0, 1]. */
  referenceShare: number;
  /** What the bucket adds to the index, at least 0. */
  contribution: number;
}

/** Stored images that look alike: each differs from another one of the group by few bits of the perceptual hash. */
export interface DuplicateGroup {
  /** How many images there are, at least 2. */
  imageCount: number;
  /** The images, by id; at most 1000. */
  imageIds: string[];
}

/** One page of groups. */
export interface ListDuplicateGroupsResponse {
  /** The groups, the largest first. */
  groups: DuplicateGroup[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** The upload of one image that becomes a stored image once all its bytes are there. */
export interface Upload {
  /** Identifies the upload. */
  uploadId: string;
  /** The size of the whole image, in bytes. */
  sizeBytes: number;
  /** How many bytes are there: where the next part begins. */
  offset: number;
  /** The SHA-256 of the whole image, as it was announced: 64 hexadecimal digits. Empty if it was not. */
  sha256: string;
  /** The stored image that the upload has become. Empty as long as it is not complete. */
  imageId: string;
  /** When the upload was created. */
  createTime: Date;
  /** When the upload is forgotten, and its parts are removed. The stored image stays. */
  expireTime: Date;
  /** Where a client without credentials sends the whole image by PUT, instead of parts; `CompleteUpload` ends that. Set by `CreateUpload`, where the installation has a bucket that it does not encrypt itself, and the image has no subject. The address expires after `CATEGORIZER_UPLOADS__URL_LIFETIME_S`. */
  putUrl: string;
  /** The headers that this PUT must have. */
  putHeaders: UploadHeader[];
}

/** A header of an HTTP request. */
export interface UploadHeader {
  /** The name. */
  name: string;
  /** The value. */
  value: string;
}

/** Response of `CancelUpload`. */
export interface CancelUploadResponse {
}

/** The receipt of a result. */
export interface Receipt {
  /** The result. */
  resultId: string;
  /** A JSON Web Signature (RFC 7515) in its compact form: header, payload and signature in base64url, with dots between them. The algorithm is EdDSA (RFC 8037) with Ed25519. */
  receipt: string;
  /** The key that signed it: `ReceiptKey.kid`. */
  keyId: string;
}

/** What is right, and wrong, with a receipt. */
export interface ResultVerification {
  /** Whether all of the following holds. */
  valid: boolean;
  /** Whether the server knows the key that the receipt names. */
  keyKnown: boolean;
  /** Whether that key signed exactly this receipt. */
  signatureValid: boolean;
  /** Whether the result is stored, in the caller's tenant, as the receipt states it. */
  resultUnchanged: boolean;
  /** One sentence for each that does not hold. */
  problems: string[];
  /** The result that the receipt names. Empty unless the signature is valid. */
  resultId: string;
}

/** A result, and what the same model version answers now. */
export interface ResultReplay {
  /** Whether the same categories are predicted in the same order, each with a confidence within 0.0001. */
  matches: boolean;
  /** The largest difference between the confidences of a category; 1 if a category is predicted only once. */
  maxDifference: number;
  /** What the model predicts now. */
  predictions: Prediction[];
  /** The model version that answered now. */
  model: ModelRef;
  /** What differs. Empty if nothing does. */
  differences: ReplayDifference[];
}

/** A JSON Web Key Set (RFC 7517). */
export interface ReceiptKeys {
  /** The key that signs now, then those that it replaced. Empty if the server signs nothing. */
  keys: ReceiptKey[];
}

/** A public key, as a JSON Web Key (RFC 8037). */
export interface ReceiptKey {
  /** `OKP`. */
  kty: string;
  /** `Ed25519`. */
  crv: string;
  /** The 32 bytes of the key, in base64url without padding. */
  x: string;
  /** Identifies the key: the first 16 hexadecimal digits of the SHA-256 of its bytes. */
  kid: string;
  /** `sig`. */
  use: string;
  /** `EdDSA`. */
  alg: string;
}

/** Something that differs between the result and now. */
export interface ReplayDifference {
  /** `input`, `model`, `preprocessing`, `calibration`, `taxonomy` or `serverVersion`. */
  name: string;
  /** What the result states. */
  recorded: string;
  /** What it is now. */
  current: string;
}

/** A stored image. */
export interface Image {
  /** Identifies the image. */
  imageId: string;
  /** The SHA-256 of the bytes that were sent: 64 hexadecimal digits. What is stored may differ. Of an image that was stored with `blur`, that of what is stored. */
  sha256: string;
  /** The size of what is stored, in bytes. */
  sizeBytes: number;
  /** The format of what is stored: `JPEG`, `PNG`, `WEBP`, `GIF`, `BMP`, `TIFF`, `AVIF` or `HEIF`. */
  format: string;
  /** The width of the upright image, in pixels. */
  widthPx: number;
  /** The height of the upright image, in pixels. */
  heightPx: number;
  /** The name of the file, as it was sent. Empty if none was. */
  filename: string;
  /** Words of the caller's own, sorted. */
  tags: string[];
  /** Whose image it is, as it was sent. Empty if nothing was. */
  subjectId: string;
  /** When the image was stored. */
  createTime: Date;
  /** The newest classification. Absent if the image was not classified. */
  result?: ImageResult | undefined;
  /** What the picture looks like. Absent for images that an earlier release has stored. */
  facts?: PictureFacts | undefined;
  /** Whether the bytes are stored as they were sent, with their metadata. */
  hasMetadata: boolean;
  /** Where a client without credentials reads what is stored, until the address expires. Set by `UploadImage` and `GetImage`, where the installation has a bucket or a CDN, and the image has no metadata. */
  contentUrl: string;
}

/** What a picture looks like. */
export interface PictureFacts {
  /** A hash of 64 bits, 16 hexadecimal digits: few bits differ between pictures that look alike. */
  perceptualHash: string;
  /** Up to five colours that stand for all, the largest first. */
  dominantColours: Colour[];
  /** The mean of the grey values, in [0, 1]. */
  brightness: number;
  /** The variance of the Laplacian of the grey values, at least 0. Blurred pictures have small values. */
  sharpness: number;
}

/** A colour that stands for a part of a picture. */
export interface Colour {
  /** As CSS writes it: `#rrggbb`. */
  name: string;
  /** The share of the pixels, in [0, 1]. */
  share: number;
}

/** What a model found in a stored image. */
export interface ImageResult {
  /** Identifies the result. */
  resultId: string;
  /** The image. */
  imageId: string;
  /** The predictions, most confident first. */
  predictions: Prediction[];
  /** The model version that produced the result. */
  model: ModelRef;
  /** When the image was classified. */
  createTime: Date;
}

/** Request for `UploadImage`. */
export interface UploadImageRequest {
  /** The encoded image, at most `Limits.maxImageBytes` bytes. In JSON base64, or a URL `data:image/...;base64,`. */
  image?: Uint8Array | undefined;
  /** Where to fetch the image: `https://`, `s3://`, `gs://` or `az://`. */
  imageUri?: string | undefined;
  /** The name of the file, at most 255 characters; a path is reduced to its last part. Optional. */
  filename?: string | undefined;
  /** Words of the caller's own, at most 64 of 1 to 64 characters each. Optional. */
  tags?: string[] | undefined;
  /** Whose image it is: a name that the caller chooses, at most 128 characters. `EraseSubject` erases all that is stored about a subject. Optional. */
  subjectId?: string | undefined;
  /** Whether the bytes are stored as they are. Otherwise the orientation is applied, and all that is not the picture is removed: EXIF, XMP, IPTC, comments, thumbnails, profiles. Requires the role `admin`. */
  keepMetadata?: boolean | undefined;
  /** Rectangles of the upright image that nobody may see, at most 64, such as faces: in what is stored, each is filled with its mean colour, and cannot be restored. `40,30,120,160` are the edges left, top, right and bottom, in pixels; the last two are exclusive. `percent:10,20,50,60` are the same edges in hundredths of width and height; pixels that an edge crosses are filled. Not with `keepMetadata`. */
  blur?: string[] | undefined;
}

/** Request for `ListImages`. */
export interface ListImagesRequest {
  /** The maximum number of images to return, at least 0. Defaults to 100; values above 1000 are reduced to 1000. */
  pageSize?: number | undefined;
  /** The `nextPageToken` of the previous response. Empty for the first page. */
  pageToken?: string | undefined;
  /** If set, only images of this subject are returned. */
  subjectId?: string | undefined;
  /** If set, only images whose newest result has this category, or one below it, as its best prediction. Spelled as in `ListCategories`. */
  category?: string | undefined;
  /** If set, only images whose best prediction of the newest result has at least this confidence, in [0, 1]. */
  minConfidence?: number | undefined;
  /** If set, only images whose best prediction of the newest result has at most this confidence, in [0, 1]. */
  maxConfidence?: number | undefined;
  /** If set, only images whose newest result comes from this model, in any version. */
  model?: string | undefined;
  /** Only images that have all of these tags; at most 8. */
  tags?: string[] | undefined;
  /** If set, only images whose file name has all of these words, at most 8, in any case. A word is a row of letters and digits: `beach 2024` finds `IMG_2024_Beach.jpg`, and `bea` does not. */
  filename?: string | undefined;
  /** If set, only images that were stored at this time or later are returned. */
  startTime?: Date | undefined;
  /** If set, only images that were stored before this time are returned. */
  endTime?: Date | undefined;
  /** If set, only images in this state. */
  reviewState?: "UNREVIEWED" | "RIGHT" | "CORRECTED" | "NOT_IN_LIST" | "REVIEWED" | undefined;
  /** If set, only this image, and those that look like it. */
  nearDuplicateOf?: string | undefined;
  /** By how many of the 64 bits of their perceptual hashes the images may differ from `nearDuplicateOf`, 0 to 10. Default: 4. */
  maxDistanceBits?: number | undefined;
}

/** One page of images. */
export interface ListImagesResponse {
  /** The images, newest first. */
  images: Image[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** Response of `DeleteImage`. */
export interface DeleteImageResponse {
}

/** Request for `UpdateImage`. */
export interface UpdateImageRequest {
  /** The image. Required. */
  imageId?: string | undefined;
  /** The new name of the file; see `UploadImageRequest.filename`. Empty for none. */
  filename?: string | undefined;
  /** The new tags, all of them, if any are listed; see `UploadImageRequest.tags`. */
  tags?: string[] | undefined;
  /** Fields to empty: `tags`. */
  clear?: string[] | undefined;
}

/** The embeddings of images, in the shape of OpenAI's API. */
export interface EmbedResponse {
  /** Always `list`. */
  object: string;
  /** One for each image, in the order of the request. */
  data: Embedding[];
  /** The name of the model. */
  model: string;
  /** What was used: 0, because images have no tokens. */
  usage: EmbedUsage;
  /** The model version that made the embeddings. Only those with the same digest can be compared. */
  modelVersion: ModelRef;
}

/** The embedding of one image. */
export interface Embedding {
  /** Always `embedding`. */
  object: string;
  /** The position of the image in the request. */
  index: number;
  /** The numbers, 1280 of the packaged model. The sum of their squares is 1, so the sum of the products of two embeddings is the cosine of the angle between them. */
  embedding: number[];
}

/** What was used, in OpenAI's terms. */
export interface EmbedUsage {
  /** Always 0. */
  promptTokens: number;
  /** Always 0. */
  totalTokens: number;
}

/** Images that are similar to another one. */
export interface SimilarImages {
  /** The images, the most similar first. */
  images: SimilarImage[];
  /** The model version whose embeddings were compared. */
  model: ModelRef;
}

/** A stored image, and how similar it is. */
export interface SimilarImage {
  /** The image. */
  image: Image;
  /** The cosine of the angle between the embeddings, in [-1, 1]: 1 for equal images. */
  similarity: number;
}

/** What somebody says about one result. */
export interface Feedback {
  /** Identifies the feedback. */
  feedbackId: string;
  /** The stored image. */
  imageId: string;
  /** The result. */
  resultId: string;
  /** What is said. */
  judgement: "RIGHT" | "WRONG" | "NOT_IN_LIST";
  /** What the image shows. `UNKNOWN` for NOT_IN_LIST. */
  category: string;
  /** When it was said. */
  createTime: Date;
  /** When it was undone. Absent if it counts. */
  undoTime?: Date | undefined;
  /** Who said it: an API key, or a person as the identity provider names them. Empty if an earlier release kept it. */
  reviewer: string;
  /** The images that this call has judged the same; see `SubmitFeedbackRequest.lookAlikeBits`. Only in its answer. */
  lookAlikeImageIds: string[];
}

/** One page of feedback. */
export interface ListFeedbackResponse {
  /** The feedback, newest first. */
  feedback: Feedback[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** Response of `GetLiveness`. */
export interface GetLivenessResponse {
  /** Always true. */
  live: boolean;
}

/** Response of `GetReadiness`. */
export interface GetReadinessResponse {
  /** Always true. A server that is not ready returns an error. */
  ready: boolean;
  /** Components that are down but not needed for classification, such as `redis`. */
  degraded: string[];
}

/** A category that a model can assign. */
export interface Category {
  /** The name of the category, unique within the model. The value of `Prediction.category`. */
  category: string;
  /** A stable identifier that does not change when categories are renamed. Empty if the model defines none. */
  categoryId: string;
  /** Broader categories, nearest first. A category with two parents has those above both. Empty if the model has no taxonomy. */
  ancestors: string[];
}

/** One version of a model on this server. */
export interface Model {
  /** The name of the model. */
  name: string;
  /** The version number, starting at 1. */
  version: string;
  /** `sha256:` and 64 hexadecimal digits, computed over the model's files. */
  digest: string;
  /** The state of the version. */
  state: "LOADING" | "READY" | "FAILED" | "UNLOADED" | "STANDBY";
  /** Why the state is FAILED, for people. Empty otherwise. */
  stateMessage: string;
  /** Whether this version serves requests that name no model. */
  default: boolean;
  /** The number of categories, at least 1. */
  categoryCount: number;
  /** The width of the network's input, in pixels. Images are resized to it. */
  inputWidthPx: number;
  /** The height of the network's input, in pixels. */
  inputHeightPx: number;
  /** How the output of the network becomes confidences. */
  activation?: "SOFTMAX" | "SIGMOID" | undefined;
  /** The runtime: `onnx` or `torch`. Empty unless READY. */
  runtime: string;
  /** The device: `cpu` or `cuda`. Empty unless READY. */
  device: string;
  /** The licence of the weights, as stated when the model was added. May be empty. */
  licence: string;
  /** Where the weights come from. May be empty. */
  origin: string;
  /** The aliases of this version, such as `stable`. */
  aliases: string[];
  /** The share of requests without a version that this version serves as `canary`, in percent. */
  canaryPercent: number;
  /** The precision: `fp32`, `fp16`, `bf16` or `int8`. Empty unless READY. */
  precision: string;
  /** How the model locates a category in an image. */
  localization?: "CLASS_ACTIVATION" | "ATTENTION_ROLLOUT" | "DETECTION" | undefined;
  /** About how much memory the version takes while it is loaded, in bytes. */
  residentBytes: number;
}

/** Limits of images and requests. All are inclusive, and all are settings of the server. */
export interface Limits {
  /** The maximum size of an encoded image, in bytes. */
  maxImageBytes: number;
  /** The maximum number of pixels of an image, width times height. */
  maxImagePixels: number;
  /** The maximum length of a side of an image, in pixels. */
  maxSidePx: number;
  /** The maximum ratio of the longer side to the shorter side. */
  maxAspectRatio: number;
  /** The maximum number of names in `includeCategories` and in `excludeCategories`. */
  maxFilterCategories: number;
  /** The deadline of a request that states none, in seconds. */
  defaultDeadlineS: number;
  /** The maximum deadline of a request, in seconds. Later deadlines are shortened to it. */
  maxDeadlineS: number;
  /** The maximum number of unanswered items of one `ClassifyStream` call. */
  maxStreamInFlight: number;
  /** The maximum number of images of a batch. */
  maxBatchItems: number;
  /** The maximum total size of the images of a batch, in bytes. */
  maxBatchBytes: number;
}

/** The server and its limits. */
export interface ServerInfo {
  /** The version of the server, `MAJOR.MINOR.PATCH`. */
  version: string;
  /** The supported image formats: `JPEG`, `PNG`, `WEBP`, `GIF`, `BMP`, `TIFF`, and, where the installation reads them, `AVIF` and `HEIF`. */
  imageFormats: string[];
  /** The limits of the server. */
  limits: Limits;
  /** The model that serves requests that name none. */
  defaultModel: string;
}

/** One page of categories. */
export interface ListCategoriesResponse {
  /** The categories, in the order of the model. */
  categories: Category[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** One page of models. */
export interface ListModelsResponse {
  /** The models, by name, then by version. */
  models: Model[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** An image that nobody has judged. */
export interface ReviewItem {
  /** The image, with its newest result. */
  image: Image;
  /** How little the model decides between its two best predictions, in [0, 1]: 1 minus their distance. If it has one prediction, the other one has what the first leaves of 1, and no more than the first. 1 without a prediction. */
  uncertainty: number;
  /** The share of the most similar stored images, weighed by their similarity, that show another category: as people say, or else as their first prediction says. In [0, 1]; 0 without neighbours. Absent: not compared yet. */
  disagreement?: number | undefined;
  /** When the image was put aside. Absent if it was not. */
  skipTime?: Date | undefined;
}

/** One page of items. */
export interface ListReviewItemsResponse {
  /** The items. */
  items: ReviewItem[];
  /** Pass it as `pageToken` to get the next page. Empty on the last page. */
  nextPageToken: string;
}

/** How far reviewers agree. */
export interface ReviewAgreement {
  /** How many results two or more reviewers have judged. */
  resultCount: number;
  /** How many reviewers have judged one of them. */
  reviewerCount: number;
  /** The mean over the results of the share of pairs of reviewers that say the same, in [0, 1]. Absent without results. */
  observedAgreement?: number | undefined;
  /** Fleiss' kappa: 1 if they always agree, 0 if they agree as often as by chance. Each result counts once, however many reviewers it has. Absent without results, or if all say one category. */
  fleissKappa?: number | undefined;
  /** The pairs of reviewers that have the most results in common; at most 50. */
  pairs: ReviewerPair[];
}

/** Two reviewers. */
export interface ReviewerPair {
  /** The first one: an API key, or a person as the identity provider names them. */
  reviewer: string;
  /** The second one. */
  otherReviewer: string;
  /** How many results both have judged. */
  resultCount: number;
  /** The share of these of which they say the same, in [0, 1]. */
  observedAgreement: number;
  /** Cohen's kappa. Absent if both say one category of all. */
  cohenKappa?: number | undefined;
}
