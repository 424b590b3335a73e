import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export const batchesRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/batches",
  component: lazyRouteComponent(() => import("./screen"), "Batches"),
});
