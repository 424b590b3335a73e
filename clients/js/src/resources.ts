/** The resources that few programs need; each is made of a client. */

export { Audit, type AuditFilter } from "./audit.js";
export type { Client } from "./connection.js";
export type {
  AuditEvent,
  CategoryHead,
  Erasure,
  HeadTrial,
  OwnCategory,
  RemovedCount,
  ReviewAgreement,
  ReviewerPair,
  Upload,
  UploadHeader,
} from "./generated/types.js";
export { type Examples, OwnCategories } from "./own-categories.js";
export { type ReviewFilters, type ReviewItem, Reviews } from "./reviews.js";
export { Subjects } from "./subjects.js";
export { type SendOptions, type UploadOptions, Uploads } from "./uploads.js";
