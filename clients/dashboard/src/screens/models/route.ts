import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

export type ModelsSearch = {
  tab?: "evaluation";
  /** What is evaluated. */
  model?: string;
  version?: string;
  /** The version of the same model that it is compared with. */
  against?: string;
};

export const modelsRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/models",
  component: lazyRouteComponent(() => import("./screen"), "Models"),
  validateSearch: (search): ModelsSearch => ({
    ...(search.tab === "evaluation" && { tab: "evaluation" }),
    ...(search.model ? { model: String(search.model) } : {}),
    ...(search.version ? { version: String(search.version) } : {}),
    ...(search.against ? { against: String(search.against) } : {}),
  }),
});
