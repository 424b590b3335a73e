import { createRootRoute } from "@tanstack/react-router";
import { Broken, NotFound } from "./shell/broken";
import { Shell } from "./shell/shell";

/** What is around every screen. */
export const rootRoute = createRootRoute({
  component: Shell,
  notFoundComponent: NotFound,
  errorComponent: Broken,
});
