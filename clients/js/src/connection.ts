/** How the client makes calls. */

import { credentials, originOf } from "./address.js";
import type { ImageCategorizer } from "./client.js";
import { DeadlineExceeded, Unavailable } from "./generated/errors.js";
import { type Failure, MAX_ATTEMPTS, MAX_CUTS, Retries, RetryBudget } from "./retries.js";
import { fromResponse } from "./statuses.js";
import { decode } from "./wire.js";

/** How one call is made; every method takes it. */
export interface CallOptions {
  /** Ends the call: it throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /** The maximum duration of the call in seconds, retries included. Default: the client's. */
  timeoutS?: number | undefined;
}

/** How a client is made. */
export interface ClientOptions {
  /** `ic_...`, or an access token; blanks and line ends around it are ignored. */
  apiKey?: string | undefined;
  /**
   * `https://host`, or `host` alone, for TLS; `http://host:port` for a server without it. Without a
   * scheme, servers on this machine are called without TLS. Default: `localhost:8080`.
   */
  baseUrl?: string | undefined;
  /**
   * The maximum duration of one call in seconds, retries included. Uploads of batches, exports and
   * `watchBatch` have no limit. Default: 30.
   */
  timeoutS?: number | undefined;
  /** Returns an access token, instead of `apiKey`. It is called before every attempt. */
  tokenProvider?: (() => string | Promise<string>) | undefined;
  /** Makes the requests. Default: the runtime's `fetch`. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** A client, of which resources can be made. */
export type Client = Pick<ImageCategorizer, "connection">;

/** The body of one attempt. */
export interface Body {
  content: BodyInit;
  type?: string;
  /** What reading the body threw. */
  error?: () => unknown;
}

/** One call. */
export interface Call extends CallOptions {
  method?: "GET" | "POST" | "PATCH" | "DELETE";
  path: string;
  query?: object | undefined;
  json?: object;
  /** Makes the body of each attempt. */
  body?: () => Promise<Body>;
}

const TIMEOUT_S = 30;
/** What says that no server had the call. */
const NOT_SENT = new Set(["ECONNREFUSED", "ConnectionRefused", "ENOTFOUND", "EAI_AGAIN"]);
/** The largest delay of a timer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** What an attempt throws; `call` throws its error. */
class Failed {
  constructor(readonly failure: Failure) {}
}

/** Calls the server with the client's credentials. */
export class Connection {
  readonly budget = new RetryBudget();
  readonly #origin: string;
  readonly #headers: Record<string, string>;
  readonly #timeoutS: number;
  readonly #tokenProvider: ClientOptions["tokenProvider"];
  readonly #fetch: typeof globalThis.fetch;

  constructor(options: ClientOptions) {
    const { apiKey = "", baseUrl = "localhost:8080", timeoutS = TIMEOUT_S } = options;
    if (apiKey && options.tokenProvider)
      throw new TypeError("a client takes either an apiKey or a tokenProvider");
    this.#origin = originOf(baseUrl);
    this.#headers = credentials(apiKey);
    this.#timeoutS = timeoutS;
    this.#tokenProvider = options.tokenProvider;
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /** Returns the answer to a request that is safe to repeat, of the first or a later attempt. */
  call<T>(call: Call): Promise<T> {
    return this.repeat(call, new Retries(MAX_ATTEMPTS, this.budget, MAX_CUTS), readJson<T>);
  }

  /** Returns the answer to one request. */
  callOnce<T>(call: Call): Promise<T> {
    return this.repeat(call, new Retries(1), readJson<T>);
  }

  /** Returns what `read` makes of the response, of the first or a later attempt. */
  async repeat<T>(
    call: Call,
    retries: Retries,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    const endMs = Date.now() + (call.timeoutS ?? this.#timeoutS) * 1000;
    for (;;) {
      let waitMs: number;
      try {
        const found = await this.#attempt(call, endMs - Date.now(), retries.mayCrash, read);
        this.budget.succeeded();
        return found;
      } catch (failed) {
        if (!(failed instanceof Failed)) throw failed;
        waitMs = retries.failed(failed.failure) * 1000;
        if (Date.now() + waitMs >= endMs) throw failed.failure.error;
      }
      await sleep(waitMs, call.signal);
    }
  }

  /** Makes one attempt; throws `Failed`, or what the caller's own code throws. */
  async #attempt<T>(
    call: Call,
    leftMs: number,
    mayCrash: boolean,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    call.signal?.throwIfAborted();
    const headers: Record<string, string> = {
      ...(this.#tokenProvider ? credentials(await this.#tokenProvider()) : this.#headers),
      ...(mayCrash ? { "x-attempt": "2" } : {}),
    };
    const body = call.json ? jsonBody(call.json) : await call.body?.();
    if (body?.type) headers["content-type"] = body.type;
    const timer = new AbortController();
    const timeout =
      leftMs < MAX_TIMER_MS ? setTimeout(() => timer.abort(), Math.max(0, leftMs)) : undefined;
    const signal = call.signal ? AbortSignal.any([call.signal, timer.signal]) : timer.signal;
    const init: RequestInit & { duplex?: "half" } = {
      method: call.method ?? "GET",
      headers,
      signal,
    };
    if (body) init.body = body.content;
    if (body?.content instanceof ReadableStream) init.duplex = "half";
    try {
      const response = await this.#fetch(this.#url(call), init);
      if (!response.ok) throw new Failed({ error: await fromResponse(response), isCut: false });
      return await read(response);
    } catch (cause) {
      if (cause instanceof Failed) throw cause;
      call.signal?.throwIfAborted();
      const own = body?.error?.();
      if (own !== undefined) throw own;
      throw new Failed(this.#failure(cause, timer.signal.aborted));
    } finally {
      clearTimeout(timeout);
    }
  }

  #failure(cause: unknown, isTimeout: boolean): Failure {
    if (isTimeout) {
      const error = new DeadlineExceeded("no answer came within timeoutS", { cause });
      return { error: Object.assign(error, { status: "DEADLINE_EXCEEDED" }), isCut: false };
    }
    const error = new Unavailable(`no answer from ${this.#origin}: ${reasonOf(cause)}`, { cause });
    return { error: Object.assign(error, { status: "UNAVAILABLE" }), isCut: !wasNotSent(cause) };
  }

  #url(call: Call): string {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(call.query ?? {}))
      for (const one of Array.isArray(value) ? value : [value])
        if (one !== undefined)
          query.append(name, one instanceof Date ? one.toISOString() : `${one}`);
    const text = query.toString();
    return this.#origin + call.path + (text ? `?${text}` : "");
  }

  /** Yields the entries of all pages of a list. */
  async *list<P extends { nextPageToken: string }, T>(
    call: Call,
    entries: (page: P) => T[],
  ): AsyncGenerator<T, void, undefined> {
    let pageToken: string | undefined;
    do {
      const page: P = await this.call<P>({
        ...call,
        query: { pageSize: 1000, ...call.query, pageToken },
      });
      yield* entries(page);
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /** Yields the pieces of a file that the server streams; the call may last for ever. */
  async *pieces(call: Call): AsyncGenerator<Uint8Array, void, undefined> {
    const response = await this.repeat(call, new Retries(1), async (found) => found);
    const reader = response.body?.getReader();
    if (!reader) return;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } catch (cause) {
      call.signal?.throwIfAborted();
      throw this.#failure(cause, false).error;
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }
}

async function readJson<T>(response: Response): Promise<T> {
  return decode(await response.json()) as T;
}

function jsonBody(value: object): Body {
  const content = JSON.stringify(value, (name, field) => (name === "version" ? `${field}` : field));
  return { content, type: "application/json" };
}

function reasonOf(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  return inner instanceof Error ? inner.message || inner.name : String(inner);
}

function wasNotSent(cause: unknown): boolean {
  for (let at = cause; at instanceof Error; at = at.cause)
    if ("code" in at && NOT_SENT.has(String(at.code))) return true;
  return false;
}

/** Waits; throws the signal's reason when it is aborted. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Returns a path with its variables in it. */
export function path(parts: TemplateStringsArray, ...values: string[]): string {
  return String.raw({ raw: parts }, ...values.map(encodeURIComponent));
}

/** Returns options without those of the call. */
export function split<T extends CallOptions>(given: T): [CallOptions, Omit<T, keyof CallOptions>] {
  const { signal, timeoutS, ...rest } = given;
  return [{ signal, timeoutS }, rest];
}
