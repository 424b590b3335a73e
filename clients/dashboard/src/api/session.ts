/**
 * Who is signed in: by an API key, which this tab keeps until it is closed, or by the cookie of a session, which
 * scripts cannot read.
 */
const STORED_KEY = "image-categorizer.key";
/** Tells the server that a page of its own makes the call, where the browser does not. */
const OWN_HEADER = "x-image-categorizer";

function storedKey(): string | null {
  return sessionStorage.getItem(STORED_KEY);
}

export function storeKey(key: string): void {
  sessionStorage.setItem(STORED_KEY, key);
}

export function forgetKey(): void {
  sessionStorage.removeItem(STORED_KEY);
}

/** The headers of every call, gRPC-web or REST. */
export function credentials(): Record<string, string> {
  const key = storedKey();
  return key ? { [OWN_HEADER]: "1", authorization: `Bearer ${key}` } : { [OWN_HEADER]: "1" };
}

/** Ends the session, if there is one, and forgets the key. */
export async function signOut(): Promise<void> {
  try {
    if (!storedKey()) await fetch("/auth/logout", { method: "POST", headers: credentials() });
  } finally {
    forgetKey();
  }
}
