import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export const modelsRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/models",
  component: lazyRouteComponent(() => import("./screen"), "Models"),
});
