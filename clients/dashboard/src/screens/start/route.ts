import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export const startRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/start",
  component: lazyRouteComponent(() => import("./screen"), "Start"),
});
