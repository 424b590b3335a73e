import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export type ReviewSearch = {
  tab?: "agreement";
  view?: "focus";
  order?: "disagreement";
  /** Only images that are answered with this category, or one below it. */
  category?: string;
  /** Whether the images that were put aside are listed. */
  aside?: true;
};

export const reviewRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/review",
  component: lazyRouteComponent(() => import("./screen"), "Review"),
  validateSearch: (search): ReviewSearch => ({
    ...(search.tab === "agreement" && { tab: "agreement" }),
    ...(search.view === "focus" && { view: "focus" }),
    ...(search.order === "disagreement" && { order: "disagreement" }),
    ...(search.category ? { category: String(search.category) } : {}),
    ...(search.aside === true && { aside: true }),
  }),
});
