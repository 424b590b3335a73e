import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export const libraryRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/library",
  component: lazyRouteComponent(() => import("./screen"), "Library"),
});
