import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export const classifyRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/classify",
  component: lazyRouteComponent(() => import("./screen"), "Classify"),
});
