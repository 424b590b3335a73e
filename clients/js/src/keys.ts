import { type CallOptions, type Connection, path, split } from "./connection.js";
import type { ApiKey, CreateApiKeyRequest, ListApiKeysResponse } from "./generated/types.js";

/** The role of an API key. */
export type KeyRole = "viewer" | "classifier" | "operator" | "admin" | "worker" | "platform";

/** What a key may be limited to. */
export interface KeyLimits extends Pick<CreateApiKeyRequest, "scopes" | "allowedAddresses"> {
  /** When the key stops being accepted. */
  expireTime?: Date | undefined;
}

/** What `keys.update` changes; what is not given stays. */
export interface KeyChanges extends Omit<KeyLimits, "expireTime"> {
  name?: string | undefined;
  role?: KeyRole | undefined;
  /** Null: the key does not expire any more. */
  expireTime?: Date | null | undefined;
}

/** The tenant's API keys: `client.keys`. Needs a key of the role admin. */
export class Keys {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Creates an API key, with its `secret`, which the server never shows again. */
  create(name: string, role: KeyRole, options: KeyLimits & CallOptions = {}): Promise<ApiKey> {
    const [call, rest] = split(options);
    const json = { name, role, ...rest };
    return this.#connection.callOnce({ ...call, method: "POST", path: "/v1/keys", json });
  }

  /** Returns one key, without its secret. */
  get(keyId: string, call: CallOptions = {}): Promise<ApiKey> {
    return this.#connection.call({ ...call, path: path`/v1/keys/${keyId}` });
  }

  /** Yields the keys, the oldest first, without their secrets; those in one state, or all. */
  list(
    options: { state?: ApiKey["state"] | undefined } & CallOptions = {},
  ): AsyncGenerator<ApiKey> {
    const [call, query] = split(options);
    const request = { ...call, path: "/v1/keys", query };
    return this.#connection.list(request, (page: ListApiKeysResponse) => page.keys);
  }

  /** Changes what is given; the secret stays. Empty lists end the limits. */
  update(keyId: string, changes: KeyChanges, call: CallOptions = {}): Promise<ApiKey> {
    const { scopes, allowedAddresses, expireTime, ...rest } = changes;
    const clear = [
      ...(scopes?.length === 0 ? ["scopes"] : []),
      ...(allowedAddresses?.length === 0 ? ["allowed_addresses"] : []),
      ...(expireTime === null ? ["expire_time"] : []),
    ];
    const json = { ...rest, scopes, allowedAddresses, expireTime: expireTime ?? undefined, clear };
    const at = path`/v1/keys/${keyId}`;
    return this.#connection.callOnce({ ...call, method: "PATCH", path: at, json });
  }

  /**
   * Gives a key a new secret.
   *
   * @param options `overlapS`: for how many seconds the secret of now is still accepted, at most 30
   * days. Default: a day, a setting of the server.
   */
  rotate(
    keyId: string,
    options: { overlapS?: number | undefined } & CallOptions = {},
  ): Promise<ApiKey> {
    const [call, { overlapS }] = split(options);
    const json = overlapS === undefined ? {} : { overlap: `${overlapS}s` };
    const at = path`/v1/keys/${keyId}:rotate`;
    return this.#connection.callOnce({ ...call, method: "POST", path: at, json });
  }

  /** Ends a key for good. */
  revoke(keyId: string, call: CallOptions = {}): Promise<ApiKey> {
    const at = path`/v1/keys/${keyId}:revoke`;
    return this.#connection.call({ ...call, method: "POST", path: at, json: {} });
  }
}
