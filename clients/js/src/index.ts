/** The client of Image Categorizer. */

export type { BatchOptions, ExportFormat } from "./batches.js";
export { type ClassifyImageOptions, type Embedding, ImageCategorizer } from "./client.js";
export type { CallOptions, ClientOptions } from "./connection.js";
export { CategorizerError, type StatusName, type Violation } from "./failure.js";
export type { FeedbackOptions } from "./feedback.js";
export * from "./generated/errors.js";
export type {
  ApiKey,
  Caller,
  Category,
  Colour,
  Drift,
  DriftBucket,
  DriftPeriod,
  Feedback,
  GetUsageResponse as Usage,
  Limits,
  Model,
  ModelRef,
  Neighbour,
  PictureFacts,
  ServerInfo,
  Timing,
  UsageRow,
  Webhook,
  WebhookAttempt,
  WebhookDelivery,
} from "./generated/types.js";
export type { ContentOptions, ImageFilters, SimilarOptions } from "./images.js";
export type { BatchSources, ImageSource, NamedImage } from "./inputs.js";
export type { KeyChanges, KeyLimits, KeyRole } from "./keys.js";
export type { VersionOptions } from "./models.js";
export type { Options, Version } from "./options.js";
export { verifyWebhook, WebhookInvalid, type WebhookMessage } from "./verify.js";
export type { DeliveryFilters } from "./webhooks.js";
export type {
  Answer,
  Batch,
  BatchResult,
  Box,
  Classification,
  ImageResult,
  Prediction,
  SimilarImage,
  StoredImage,
} from "./wire.js";
