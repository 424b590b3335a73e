import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { isPassing, isSignedOut, problemOf, restErrorOf } from "../src/api/error";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../src/gen/google/rpc/error_details_pb";
import { texts } from "../src/texts/en";

describe("an error of gRPC-web", () => {
  it("says what happened, why, in which request, and in which fields", () => {
    const error = new ConnectError("top_k is too small", Code.InvalidArgument, {
      "x-request-id": "r-1",
    });
    error.details = [
      { desc: ErrorInfoSchema, value: { reason: "FIELD_INVALID" } },
      {
        desc: BadRequestSchema,
        value: { fieldViolations: [{ field: "top_k", description: "is 0" }] },
      },
      { desc: RetryInfoSchema, value: { retryDelay: { seconds: 3n, nanos: 0 } } },
    ];
    expect(problemOf(error)).toEqual({
      message: "top_k is too small",
      reason: "FIELD_INVALID",
      requestId: "r-1",
      fields: [{ field: "top_k", message: "is 0" }],
      retryAfterS: 3,
    });
  });

  it("leads to the page to sign in only if the credentials are refused", () => {
    expect(isSignedOut(new ConnectError("no", Code.Unauthenticated))).toBe(true);
    expect(isSignedOut(new ConnectError("no", Code.PermissionDenied))).toBe(false);
    expect(isPassing(new ConnectError("no", Code.Unavailable))).toBe(true);
    expect(isPassing(new ConnectError("no", Code.Internal))).toBe(false);
  });

  it("says in our words that nobody has answered", () => {
    expect(problemOf(new TypeError("Failed to fetch")).message).toBe(texts.common.noAnswer);
  });
});

describe("an error of REST", () => {
  it("has the same parts", () => {
    const body = JSON.stringify({
      code: 3,
      message: "too large",
      details: [
        { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "IMAGE_TOO_LARGE" },
        { "@type": "…BadRequest", field_violations: [{ field: "image", description: "has 9 MB" }] },
        { "@type": "…RetryInfo", retry_delay: "1.500s" },
      ],
    });
    expect(problemOf(restErrorOf(413, body, "r-2"))).toEqual({
      message: "too large",
      reason: "IMAGE_TOO_LARGE",
      requestId: "r-2",
      fields: [{ field: "image", message: "has 9 MB" }],
      retryAfterS: 1.5,
    });
  });

  it("has its status if a proxy has answered, not the server", () => {
    expect(problemOf(restErrorOf(502, "<html>", "")).message).toBe("HTTP 502");
    expect(isSignedOut(restErrorOf(401, "{}", ""))).toBe(true);
  });
});
