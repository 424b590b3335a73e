import { restError } from "./error";
import { credentials } from "./session";

/**
 * Calls a REST path with the credentials of the caller: for what gRPC-web cannot do, such as uploads of many files.
 *
 * @throws RestError the server has refused.
 */
export async function rest(path: string, init: RequestInit = {}): Promise<Response> {
  const answer = await fetch(path, { ...init, headers: { ...init.headers, ...credentials() } });
  if (!answer.ok) throw await restError(answer);
  return answer;
}

/** Offers an answer of REST as a file to keep. */
export async function download(path: string, filename: string, init?: RequestInit): Promise<void> {
  offer(await (await rest(path, init)).blob(), filename);
}

/** Offers a file to keep. */
export function offer(content: Blob, filename: string): void {
  const url = URL.createObjectURL(content);
  const link = Object.assign(document.createElement("a"), { href: url, download: filename });
  link.click();
  URL.revokeObjectURL(url);
}
