/** When a failed call is made again, and after how long. Knows neither network nor clock. */

import type { CategorizerError } from "./failure.js";
import { RateLimited, Unavailable } from "./generated/errors.js";

/** How often a call is made that a server is too busy for, or an upload is started. */
export const MAX_ATTEMPTS = 4;
/** How often a call is made that is cut off: it may be what crashes the server. */
export const MAX_CUTS = 2;
/** How often a stream may end early in a row. */
export const MAX_FAILED_CALLS = 10;
const FIRST_BACKOFF_S = 0.2;
const MAX_BACKOFF_S = 5;
/** By how much a wait differs at random, so that clients do not return all at once. */
const JITTER = 0.2;
/** A server that asks for a longer wait is not waited for. */
const MAX_RETRY_AFTER_S = 120;
const BUDGET = 10;
const SUCCESSES_FOR_A_RETRY = 10;

/** Returns a wait after the given attempt, counted from 1, in seconds. */
export function backoffS(attempt: number): number {
  const meanS = Math.min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (attempt - 1));
  return meanS * (1 - JITTER + 2 * JITTER * Math.random());
}

/**
 * Bounds the retries of one client, so that clients do not multiply an overload: ten, and then one
 * for each ten calls that succeed (gRPC proposal A6).
 */
export class RetryBudget {
  #retries = BUDGET;

  /** Notes that a call succeeded. */
  succeeded(): void {
    this.#retries = Math.min(BUDGET, this.#retries + 1 / SUCCESSES_FOR_A_RETRY);
  }

  /** Returns whether there is a retry left, and takes it. */
  take(): boolean {
    if (this.#retries < 1) return false;
    this.#retries -= 1;
    return true;
  }
}

/** A failed attempt. */
export interface Failure {
  error: CategorizerError;
  /** Whether the connection broke while a server may have been serving the call. */
  isCut: boolean;
}

/** Counts failures in a row, and decides whether to try again. */
export class Retries {
  #failures = 0;
  #cuts = 0;
  /** Whether an earlier call may have crashed its server; the next one says so. */
  mayCrash = false;

  /**
   * @param maxFailures the number of the failure that is final.
   * @param budget what each retry is taken from.
   * @param maxCuts the number of the call that is final if it is cut off.
   */
  constructor(
    readonly maxFailures: number,
    readonly budget?: RetryBudget,
    readonly maxCuts = Number.POSITIVE_INFINITY,
  ) {}

  /** Starts counting from zero again. */
  succeeded(): void {
    this.#failures = this.#cuts = 0;
  }

  /**
   * Returns after how many seconds to try again.
   *
   * @throws {CategorizerError} the failure, if it is permanent, there were too many, the budget is
   * spent, or the server asks for too long a wait.
   */
  failed({ error, isCut }: Failure): number {
    this.#failures += 1;
    if (isCut) this.#cuts += 1;
    // A gateway without another server says only that it is unavailable.
    this.mayCrash ||= isCut || error.constructor === Unavailable;
    const askedS = error.retryAfterS ?? 0;
    const isTransient = error instanceof Unavailable || error instanceof RateLimited;
    const isOver = this.#failures >= this.maxFailures || (isCut && this.#cuts >= this.maxCuts);
    if (!isTransient || error.isFinal || isOver || askedS > MAX_RETRY_AFTER_S) throw error;
    if (this.budget && !this.budget.take()) throw error;
    return askedS + backoffS(this.#failures);
  }
}
