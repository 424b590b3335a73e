import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";
import { type View, viewOf } from "./search";

export const libraryRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/library",
  validateSearch: (search): View => viewOf(search),
  component: lazyRouteComponent(() => import("./screen"), "Library"),
});
