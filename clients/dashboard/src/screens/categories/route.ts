import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export const categoriesRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/categories",
  component: lazyRouteComponent(() => import("./screen"), "Categories"),
});
