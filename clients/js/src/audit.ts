import type { ExportFormat } from "./batches.js";
import { type CallOptions, type Client, type Connection, split } from "./connection.js";
import type * as wire from "./generated/types.js";

/** Which events. */
export type AuditFilter = Omit<wire.ListAuditEventsRequest, "pageSize" | "pageToken">;

/**
 * Who did what in the tenant, and what was refused. Needs the role admin.
 *
 *     const audit = new Audit(client);
 *     for await (const { time, actorId, action } of audit.list({ action: "batch." }))
 *       console.log(time, actorId, action);
 */
export class Audit {
  readonly #connection: Connection;

  constructor(client: Client) {
    this.#connection = client.connection;
  }

  /** Yields events, the newest first. */
  list(options: AuditFilter & CallOptions = {}): AsyncGenerator<wire.AuditEvent> {
    const [call, query] = split(options);
    return this.#connection.list(
      { ...call, path: "/v1/audit", query },
      (page: wire.ListAuditEventsResponse) => page.events,
    );
  }

  /** Yields events as pieces of a file, the oldest first. The export is an event, too. */
  export(
    options: { format?: ExportFormat | undefined; bom?: boolean | undefined } & AuditFilter &
      CallOptions = {},
  ): AsyncGenerator<Uint8Array> {
    const [call, query] = split(options);
    return this.#connection.pieces({ ...call, path: "/v1/audit:export", query });
  }
}
