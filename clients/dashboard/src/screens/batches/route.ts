import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";
import { type Filter, filterOf } from "./filter";

/** The names of `Batch.State` that the list can be limited to. */
export const LISTED_STATES = [
  "QUEUED",
  "RUNNING",
  "COMPLETED",
  "CANCELLING",
  "CANCELLED",
  "FAILED",
] as const;

type ListSearch = { state?: (typeof LISTED_STATES)[number] };

export const batchesRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/batches",
  validateSearch: (search): ListSearch => {
    const state = LISTED_STATES.find((name) => name === search.state);
    return state ? { state } : {};
  },
  component: lazyRouteComponent(() => import("./screen"), "Batches"),
});

export const batchRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/batches/$batchId",
  validateSearch: (search): Filter => filterOf(search),
  component: lazyRouteComponent(() => import("./batch"), "BatchScreen"),
});
