import { useSyncExternalStore } from "react";
import { isSignedOut, RestError } from "../../api/error";
import { CALLER_KEY, queries } from "../../api/query";
import { wait } from "../../api/wait";
import { type Choice, fingerprint, nameOf } from "./choose";
import { mayPass, queryOf, type SendOptions, send } from "./send";
import { forgetRequestId, requestIdOf } from "./unfinished";

/** How long to wait before each further attempt, in seconds. Then people decide. */
const DELAYS_S = [1, 2, 5, 10, 30, 60];

/** The upload of now. It goes on while people look at other screens. */
export type Upload = {
  choice: Choice;
  options: SendOptions;
  phase: "sending" | "waiting" | "broken" | "refused" | "done";
  /** In [0, 1]. */
  share: number;
  /** Since this attempt began, in bytes per second; 0 at its start. */
  rateBytesPerS: number;
  /** 1 for the first attempt. */
  attempt: number;
  /** Why it waits, is broken or refused. */
  error: unknown;
  batchId: string;
};

let upload: Upload | null = null;
let stop = new AbortController();
let hurry = new AbortController();
const listeners = new Set<() => void>();
/** The files of the batches that this tab has sent, by batch and name: their pictures need no download. */
const sent = new Map<string, Map<string, File>>();

function change(to: Upload | null): void {
  upload = to;
  for (const listener of listeners) listener();
}

function update(changed: Partial<Upload>): void {
  if (upload) change({ ...upload, ...changed });
}

export function useUpload(): Upload | null {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => upload,
  );
}

/** Returns the files that this tab has sent for a batch, by name. */
export function sentFiles(batchId: string): ReadonlyMap<string, File> | undefined {
  return sent.get(batchId);
}

/** Sends files as one batch; one upload at a time. */
export function startUpload(choice: Choice, options: SendOptions): void {
  stop.abort();
  stop = new AbortController();
  change({
    choice,
    options,
    phase: "sending",
    share: 0,
    rateBytesPerS: 0,
    attempt: 1,
    error: null,
    batchId: "",
  });
  void run(choice, options, stop.signal);
}

/** Sends a broken upload again, with the request ID that it had. */
export function resumeUpload(): void {
  if (upload) startUpload(upload.choice, upload.options);
}

/** Ends the wait before the next attempt. */
export function hurryUpload(): void {
  hurry.abort();
}

/** Stops the upload and removes it from the screen. */
export function dropUpload(): void {
  stop.abort();
  change(null);
}

async function run(choice: Choice, options: SendOptions, signal: AbortSignal): Promise<void> {
  const mark = fingerprint(choice.files, JSON.stringify(options));
  const query = queryOf(options, requestIdOf(localStorage, mark, Date.now()));
  window.addEventListener("beforeunload", warn);
  try {
    for (let attempt = 1; ; attempt++) {
      try {
        const batchId = await sendOnce(choice, query, attempt, signal);
        forgetRequestId(localStorage, mark, Date.now());
        sent.set(batchId, new Map(choice.files.map((file) => [nameOf(file), file])));
        if (!signal.aborted) update({ phase: "done", share: 1, batchId, error: null });
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (isSignedOut(error)) void queries.invalidateQueries({ queryKey: CALLER_KEY });
        if (!mayPass(error)) return update({ phase: "refused", error });
        const delay_s = DELAYS_S[attempt - 1];
        if (delay_s === undefined) return update({ phase: "broken", error });
        update({ phase: "waiting", error, share: 0, rateBytesPerS: 0 });
        await pause(Math.max(delay_s, retryAfterOf(error)), signal);
        if (signal.aborted) return;
      }
    }
  } finally {
    window.removeEventListener("beforeunload", warn);
  }
}

async function sendOnce(
  choice: Choice,
  query: string,
  attempt: number,
  signal: AbortSignal,
): Promise<string> {
  const begun_ms = performance.now();
  update({ phase: "sending", attempt, share: 0, rateBytesPerS: 0 });
  return send(
    choice.files,
    query,
    (share) => {
      if (signal.aborted) return;
      const passed_s = (performance.now() - begun_ms) / 1000;
      update({ share, rateBytesPerS: passed_s > 0 ? (share * choice.size_bytes) / passed_s : 0 });
    },
    signal,
  );
}

function retryAfterOf(error: unknown): number {
  return error instanceof RestError ? (error.problem.retryAfterS ?? 0) : 0;
}

/** Waits; less if people are in a hurry, or the network is there again. */
async function pause(delay_s: number, signal: AbortSignal): Promise<void> {
  hurry = new AbortController();
  window.addEventListener("online", hurryUpload, { once: true });
  await wait(delay_s * 1000, AbortSignal.any([signal, hurry.signal]));
  window.removeEventListener("online", hurryUpload);
}

function warn(event: BeforeUnloadEvent): void {
  event.preventDefault();
}
