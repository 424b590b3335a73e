/** Turns the status of a failed call, or of a failed item, into an error. */

import { CategorizerError, CODES, type ItemStatus, type Violation } from "./failure.js";
import {
  DeadlineExceeded,
  FailedPrecondition,
  ImageTooLarge,
  InvalidRequest,
  NotFound,
  RateLimited,
  RoleInsufficient,
  Unauthenticated,
  Unavailable,
} from "./generated/errors.js";
import { BY_REASON } from "./generated/reasons.js";
import { decode } from "./wire.js";

type Kind = typeof CategorizerError;

const BY_CODE: Readonly<Record<number, Kind>> = {
  1: Unavailable, // of a call that reaches a server while it stops
  3: InvalidRequest,
  4: DeadlineExceeded,
  5: NotFound,
  7: RoleInsufficient,
  8: RateLimited,
  9: FailedPrecondition,
  14: Unavailable,
  16: Unauthenticated,
};

/** The code of an answer that is not the gateway's, such as that of a proxy before it. */
const BY_HTTP_STATUS: Readonly<Record<number, number>> = {
  400: 3,
  401: 16,
  403: 7,
  404: 5,
  408: 4,
  409: 6,
  413: 3,
  429: 8,
  499: 1,
  502: 14,
  503: 14,
  504: 4,
};

/** Returns the error of a status: by its reason if it has one, otherwise by its code. */
export function fromStatus(status: ItemStatus, requestId: string): CategorizerError {
  const details = status.details ?? [];
  const info = details.find((detail) => isOf(detail, "ErrorInfo"));
  const reason = typeof info?.reason === "string" ? info.reason : "";
  const kind = BY_REASON[reason] ?? BY_CODE[status.code] ?? CategorizerError;
  const name = CODES[status.code] ?? "UNKNOWN";
  const error = new kind(status.message || name);
  if (reason) error.reason = reason;
  error.status = name;
  error.requestId = requestId;
  for (const detail of details) {
    if (isOf(detail, "BadRequest")) error.violations = detail.fieldViolations as Violation[];
    if (isOf(detail, "RetryInfo")) error.retryAfterS = Number.parseFloat(`${detail.retryDelay}`);
  }
  return error;
}

function isOf(detail: Record<string, unknown>, name: string): boolean {
  return detail["@type"] === `type.googleapis.com/google.rpc.${name}`;
}

/** Returns the error of an HTTP response that is not a success; reads its body. */
export async function fromResponse(response: Response): Promise<CategorizerError> {
  const text = await response.text().catch(() => "");
  const requestId = response.headers.get("x-request-id") ?? "";
  const error = fromStatus(statusOf(text, response), requestId);
  if (
    response.status === 413 &&
    error instanceof InvalidRequest &&
    error.reason === "FIELD_INVALID"
  )
    return Object.assign(new ImageTooLarge(error.message), { status: error.status, requestId });
  const asked = Number(response.headers.get("retry-after") ?? Number.NaN);
  if (error.retryAfterS === undefined && asked >= 0) error.retryAfterS = asked;
  error.isFinal = (response.headers.get("grpc-retry-pushback-ms") ?? "").startsWith("-");
  return error;
}

function statusOf(text: string, response: Response): ItemStatus {
  try {
    const status = decode(JSON.parse(text)) as ItemStatus;
    if (typeof status?.code === "number" && Array.isArray(status.details)) return status;
  } catch {
    // Not JSON: a proxy's page.
  }
  const code = BY_HTTP_STATUS[response.status] ?? (response.status < 500 ? 9 : 2);
  return { code, message: `the answer is HTTP ${response.status}`, details: [] };
}
