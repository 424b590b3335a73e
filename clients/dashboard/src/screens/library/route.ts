import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export const libraryRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/library",
  validateSearch: (search): { filename?: string } =>
    typeof search.filename === "string" ? { filename: search.filename } : {},
  component: lazyRouteComponent(() => import("./screen"), "Library"),
});
