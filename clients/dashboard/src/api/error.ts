import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../gen/google/rpc/error_details_pb";
import { texts } from "../texts/en";

/** What people are told of an error. */
export type Problem = {
  /** What happened, and what to do. */
  message: string;
  /** The name of an `ErrorReason`, empty if the server has named none. */
  reason: string;
  /** Finds the request in the server's logs; empty if none was answered. */
  requestId: string;
  /** What is wrong with which field of the request. */
  fields: { field: string; message: string }[];
  /** After how many seconds to try again, if the server says so. */
  retryAfterS: number | null;
};

/** Returns what to tell of anything that was thrown. */
export function problemOf(error: unknown): Problem {
  if (error instanceof RestError) return error.problem;
  const failure = ConnectError.from(error);
  const [info] = failure.findDetails(ErrorInfoSchema);
  const [invalid] = failure.findDetails(BadRequestSchema);
  const [retry] = failure.findDetails(RetryInfoSchema);
  return {
    message: messageOf(failure, error, info !== undefined),
    reason: info?.reason ?? "",
    requestId: failure.metadata.get("x-request-id") ?? "",
    fields: (invalid?.fieldViolations ?? []).map(({ field, description }) => ({
      field,
      message: description,
    })),
    retryAfterS: retry?.retryDelay ? Number(retry.retryDelay.seconds) : null,
  };
}

/** Whether the credentials are missing, refused or over: the caller has to sign in. */
export function isSignedOut(error: unknown): boolean {
  if (error instanceof RestError) return error.status === 401;
  return error instanceof ConnectError && error.code === Code.Unauthenticated;
}

/** Whether the same call may succeed a moment later. */
export function isPassing(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.Unavailable;
}

/** An error that REST has answered: `google.rpc.Status` as JSON. */
export class RestError extends Error {
  readonly status: number;
  readonly problem: Problem;

  constructor(status: number, problem: Problem) {
    super(problem.message);
    this.status = status;
    this.problem = problem;
  }
}

type StatusJson = {
  message?: string;
  details?: {
    "@type"?: string;
    reason?: string;
    field_violations?: { field?: string; description?: string }[];
    retry_delay?: string;
  }[];
};

/** Returns the error that a REST answer states. */
export async function restError(answer: Response): Promise<RestError> {
  return restErrorOf(answer.status, await answer.text(), answer.headers.get("x-request-id") ?? "");
}

/** Returns the error that the body of a REST answer states. */
export function restErrorOf(status: number, body: string, requestId: string): RestError {
  let stated: StatusJson = {};
  try {
    stated = JSON.parse(body) as StatusJson;
  } catch {
    // A proxy in between has answered: the status is all that is known.
  }
  const details = stated.details ?? [];
  const violations = details.flatMap((detail) => detail.field_violations ?? []);
  const delay = details.find((detail) => detail.retry_delay)?.retry_delay;
  return new RestError(status, {
    message: stated.message || `HTTP ${status}`,
    reason: details.find((detail) => detail.reason)?.reason ?? "",
    requestId,
    fields: violations.map(({ field = "", description = "" }) => ({ field, message: description })),
    retryAfterS: delay ? Number.parseFloat(delay) : null,
  });
}

function messageOf(failure: ConnectError, error: unknown, isAnswered: boolean): string {
  if (isAnswered) return failure.rawMessage;
  if (error instanceof TypeError || failure.cause instanceof TypeError) {
    return texts.common.noAnswer;
  }
  return failure.rawMessage || texts.common.unknownError;
}
