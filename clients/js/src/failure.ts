/** What failed, as the gateway writes it: a `google.rpc.Status`. */
export interface ItemStatus {
  /** The number of the gRPC status code; 0 if nothing failed. */
  code: number;
  message: string;
  details: Record<string, unknown>[];
}

/** The names of the gRPC status codes, by number. */
export const CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** The name of a gRPC status code. */
export type StatusName = (typeof CODES)[number];

/** One invalid field of a request. */
export interface Violation {
  field: string;
  description: string;
}

/**
 * The base class of the errors that a call can end with. Thrown itself for a bug of the server, and
 * if no other class fits.
 */
export class CategorizerError extends Error {
  /** The `google.rpc.ErrorInfo.reason` that becomes this class. */
  static readonly reason: string = "INTERNAL";

  /** Why the call failed: stable, to program against. */
  reason: string;
  /** The name of the gRPC status code. */
  status: StatusName = "UNKNOWN";
  /** Identifies the request in the server's logs; empty if no server answered. */
  requestId = "";
  /** Each invalid field. */
  violations: Violation[] = [];
  /** Seconds after which the server suggests a retry. */
  retryAfterS: number | undefined;
  /** Whether the gateway has repeated the call already, in vain; the client does not. */
  isFinal = false;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.reason = new.target.reason;
  }
}
