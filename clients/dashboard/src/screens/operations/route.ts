import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export const operationsRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/operations",
  component: lazyRouteComponent(() => import("./screen"), "Operations"),
});
