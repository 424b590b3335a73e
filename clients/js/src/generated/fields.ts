// Generated from proto/ by tools/generate.py; do not edit.

export const TIMES: ReadonlySet<string> = new Set([
  "allow_time",
  "create_time",
  "delete_time",
  "end_time",
  "expire_time",
  "last_use_time",
  "next_attempt_time",
  "oldest_time",
  "previous_secret_expire_time",
  "read_time",
  "revoke_time",
  "skip_time",
  "start_time",
  "time",
  "undo_time",
]);
export const DURATIONS: ReadonlySet<string> = new Set([
  "remaining_time",
]);
export const NUMBERS: ReadonlySet<string> = new Set([
  "bytes",
  "cached_images",
  "count",
  "failed_images",
  "held_count",
  "images",
  "max_batch_bytes",
  "resident_bytes",
  "seq",
  "size_bytes",
  "stored_bytes",
]);
export const BYTES: ReadonlySet<string> = new Set([
  "heat_map",
]);
export const ENUMS: ReadonlySet<string> = new Set([
  "activation",
  "batch_close_reason",
  "cache",
  "data_class",
  "judgement",
  "kind",
  "localization",
  "outcome",
  "source",
  "state",
  "warnings",
]);
export const FREE: ReadonlySet<string> = new Set([
  "detail",
]);
export const SECONDS: Readonly<Record<string, string>> = {
  processing_time: "processingTimeS",
};
