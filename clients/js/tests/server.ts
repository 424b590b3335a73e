import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll } from "vitest";
import type { ClientOptions } from "../src/connection.js";
import { ImageCategorizer } from "../src/index.js";

type Answer = (request: IncomingMessage, response: ServerResponse) => unknown;

const servers: Server[] = [];

afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

/** Serves answers one after the other, the last one for ever; returns a client and the requests. */
export async function serving(answers: Answer[], options: ClientOptions = {}) {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    const answer = answers[Math.min(requests.length, answers.length) - 1];
    answer?.(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  servers.push(server);
  const baseUrl = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { client: new ImageCategorizer({ apiKey: "ic_key", baseUrl, ...options }), requests };
}

/** Answers with JSON. */
export function json(value: object, status = 200, headers: Record<string, string> = {}): Answer {
  return (request, response) => {
    request.resume();
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify(value));
  };
}

/** Answers with an error of the server. */
export function failing(reason: string, code: number, status: number, headers = {}): Answer {
  const info = { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason };
  return json({ code, message: reason, details: [info] }, status, {
    "x-request-id": "r",
    ...headers,
  });
}

/** Cuts the connection once the request is there. */
export const cut: Answer = (request) => request.socket.destroy();

export const CALLER = { actor_id: "k", tenant_id: "default", role: "admin", scopes: [] };
