import { RestError, restErrorOf } from "../../api/error";
import { credentials } from "../../api/session";
import { nameOf } from "./choose";

/** How long a connection may carry nothing. */
const STALL_MS = 120_000;

/** How the images are classified and kept. */
export type SendOptions = {
  store: boolean;
  subjectId: string;
  confidencePercent: number;
};

/** Returns the query of `POST /v1/batch`. */
export function queryOf(options: SendOptions, requestId: string): string {
  const query = new URLSearchParams({ request_id: requestId });
  if (options.store) query.set("store", "true");
  if (options.store && options.subjectId) query.set("subject_id", options.subjectId);
  if (options.confidencePercent > 0) {
    query.set("confidence_threshold", String(options.confidencePercent / 100));
  }
  return query.toString();
}

/**
 * Sends files as one batch and returns its id. The browser reads them from the disk while it sends.
 *
 * @param onProgress gets how much of the body is sent, in [0, 1].
 * @throws RestError the server has refused.
 * @throws TypeError the connection broke, or carried nothing for two minutes.
 */
export function send(
  files: readonly File[],
  query: string,
  onProgress: (share: number) => void,
  signal: AbortSignal,
): Promise<string> {
  const form = new FormData();
  for (const file of files) form.append("images[]", file, nameOf(file));
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let stall = setTimeout(() => request.abort(), STALL_MS);
    const moved = () => {
      clearTimeout(stall);
      stall = setTimeout(() => request.abort(), STALL_MS);
    };
    request.open("POST", `/v1/batch?${query}`);
    for (const [name, value] of Object.entries(credentials()))
      request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => {
      moved();
      onProgress(total > 0 ? loaded / total : 0);
    };
    request.onload = () => {
      const requestId = request.getResponseHeader("x-request-id") ?? "";
      if (request.status === 200) {
        resolve((JSON.parse(request.responseText) as { batch_id: string }).batch_id);
      } else reject(restErrorOf(request.status, request.responseText, requestId));
    };
    request.onerror = () => reject(new TypeError("the connection broke"));
    request.onabort = request.onerror;
    request.onloadend = () => {
      clearTimeout(stall);
      signal.removeEventListener("abort", abort);
    };
    const abort = () => request.abort();
    signal.addEventListener("abort", abort);
    request.send(form);
  });
}

/** Whether the same upload may succeed later: nothing was answered, or the server is busy. */
export function mayPass(error: unknown): boolean {
  if (error instanceof RestError) return [429, 502, 503, 504].includes(error.status);
  return error instanceof TypeError;
}
