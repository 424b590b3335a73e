import { type CallOptions, type Client, type Connection, path } from "./connection.js";
import type * as wire from "./generated/types.js";

/**
 * The people whose images are stored: what is known about one is exported and erased here. Needs the
 * role admin. A subject is its ID, or `key:` and its `subjectKey`, as the gateway takes no ID with `/`.
 *
 *     const subjects = new Subjects(client);
 *     const { erasureId } = await subjects.erase("customer-17");
 *     console.log((await subjects.erasure(erasureId)).state);
 */
export class Subjects {
  readonly #connection: Connection;

  constructor(client: Client) {
    this.#connection = client.connection;
  }

  /** Begins to remove all that is stored about a subject; nothing of it is stored from now on. */
  erase(subjectId: string, call: CallOptions = {}): Promise<wire.Erasure> {
    const at = path`/v1/subjects/${subjectId}:erase`;
    return this.#connection.call({ ...call, method: "POST", path: at, json: {} });
  }

  /**
   * Lets an erased subject be stored again.
   *
   * @throws {ErasureNotFound} the subject was not erased, or is allowed.
   * @throws {ErasureRunning} the erasure is not done.
   */
  allow(subjectId: string, call: CallOptions = {}): Promise<wire.Erasure> {
    const at = path`/v1/subjects/${subjectId}:allow`;
    return this.#connection.callOnce({ ...call, method: "POST", path: at, json: {} });
  }

  /** Returns one erasure, with its certificate once it is done. */
  erasure(erasureId: string, call: CallOptions = {}): Promise<wire.Erasure> {
    return this.#connection.call({ ...call, path: path`/v1/erasures/${erasureId}` });
  }

  /** Yields the erasures, newest first. */
  erasures(call: CallOptions = {}): AsyncGenerator<wire.Erasure> {
    return this.#connection.list(
      { ...call, path: "/v1/erasures" },
      (page: wire.ListErasuresResponse) => page.erasures,
    );
  }

  /** Yields all that is stored about a subject as pieces of a zip file. */
  export(subjectId: string, call: CallOptions = {}): AsyncGenerator<Uint8Array> {
    const at = path`/v1/subjects/${subjectId}:export`;
    return this.#connection.pieces({ ...call, method: "POST", path: at, json: {} });
  }
}
