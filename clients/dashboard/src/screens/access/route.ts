import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export const accessRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/access",
  component: lazyRouteComponent(() => import("./screen"), "Access"),
});
