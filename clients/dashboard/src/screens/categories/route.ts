import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export type CategoriesSearch = {
  tab?: "own";
  /** A model, and one of its versions. */
  model?: string;
  version?: string;
  /** The category whose panel is open. */
  category?: string;
};

export const categoriesRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/categories",
  component: lazyRouteComponent(() => import("./screen"), "Categories"),
  validateSearch: (search): CategoriesSearch => ({
    ...(search.tab === "own" && { tab: "own" }),
    ...(search.model ? { model: String(search.model) } : {}),
    ...(search.version ? { version: String(search.version) } : {}),
    ...(search.category ? { category: String(search.category) } : {}),
  }),
});
