const STORED = "image-categorizer.uploads";
/** The server remembers request IDs for at least a day. */
const KEPT_MS = 23 * 3_600_000;
const MAX_KEPT = 50;

type Unfinished = Record<string, { requestId: string; time_ms: number }>;
type Store = Pick<Storage, "getItem" | "setItem">;

function read(store: Store, now_ms: number): Unfinished {
  try {
    const stored = JSON.parse(store.getItem(STORED) ?? "{}") as Unfinished;
    const fresh = Object.entries(stored).filter(([, { time_ms }]) => now_ms - time_ms < KEPT_MS);
    return Object.fromEntries(fresh.slice(-MAX_KEPT));
  } catch {
    return {};
  }
}

/**
 * Returns the request ID of an upload: that of an earlier one of the same files which has not ended, also in a tab
 * that was closed. The server makes one batch of them.
 */
export function requestIdOf(store: Store, fingerprint: string, now_ms: number): string {
  const unfinished = read(store, now_ms);
  const requestId = unfinished[fingerprint]?.requestId ?? newRequestId();
  const next = { ...unfinished, [fingerprint]: { requestId, time_ms: now_ms } };
  store.setItem(STORED, JSON.stringify(next));
  return requestId;
}

/** The upload has ended: the same files make another batch from now on. */
export function forgetRequestId(store: Store, fingerprint: string, now_ms: number): void {
  const { [fingerprint]: _, ...rest } = read(store, now_ms);
  store.setItem(STORED, JSON.stringify(rest));
}

// `crypto.randomUUID` is missing where the page comes by plain HTTP from another machine.
function newRequestId(): string {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return `ui-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
