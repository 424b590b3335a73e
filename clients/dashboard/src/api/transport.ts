import type { Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { credentials } from "./session";

const withCredentials: Interceptor = (next) => (request) => {
  for (const [name, value] of Object.entries(credentials())) request.header.set(name, value);
  return next(request);
};

/** gRPC-web over the gateway that serves this page. */
export const transport = createGrpcWebTransport({
  baseUrl: window.location.origin,
  interceptors: [withCredentials],
});
