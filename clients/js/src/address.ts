/** Where a client connects. */

const BASE_URL = /^(?:(https?):\/\/)?(\[[0-9a-f:.]+\]|[^\s[\]:/?#@\\]+)(?::([0-9]{1,5}))?\/?$/i;
const MAX_PORT = 65535;
const MAX_SHOWN = 100;

/**
 * Returns the origin that calls go to.
 *
 * A host without a scheme means TLS, because a key must not cross a network in clear text by
 * mistake; only a server on this machine is called without.
 *
 * @throws {TypeError} `baseUrl` is not an address, or has more than a scheme, a host and a port.
 */
export function originOf(baseUrl: string): string {
  const text = baseUrl.trim();
  const [, scheme, host, port] = BASE_URL.exec(text) ?? [];
  if (!host || Number(port ?? 0) > MAX_PORT) {
    const shown = text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}...`;
    throw new TypeError(`baseUrl must look like localhost:8080 or https://host, is '${shown}'`);
  }
  const used = scheme?.toLowerCase() ?? (isLoopback(host) ? "http" : "https");
  return `${used}://${host}${port ? `:${port}` : ""}`;
}

function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, "");
  const isName = name === "localhost" || name.endsWith(".localhost");
  return isName || /^127(\.\d{1,3}){3}$/.test(name) || name === "[::1]";
}

/**
 * Returns the headers of every call.
 *
 * @throws {TypeError} `apiKey` has characters that no key has.
 */
export function credentials(apiKey: string): Record<string, string> {
  const key = apiKey.trim(); // a key that was read from a file has a line end
  if (!key) return {};
  if (!/^[!-~]+$/.test(key))
    throw new TypeError("apiKey must be one word of ASCII characters, such as ic_...");
  return { authorization: `Bearer ${key}` };
}
