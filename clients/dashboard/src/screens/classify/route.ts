import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

const OVERLAYS = ["boxes", "heat"] as const;

/** What is drawn over the picture. */
export type Overlay = (typeof OVERLAYS)[number];

/** The state of the screen that an address holds: all but the picture. */
export type ClassifySearch = {
  /** `name@version`; absent for the server's default. */
  model?: string;
  /** A second model, in the same form. */
  compare?: string;
  /** In [0, 1]. */
  threshold?: number;
  rollUp?: boolean;
  overlay?: Overlay;
  /** Where the server fetches the picture. */
  uri?: string;
};

export const classifyRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/classify",
  validateSearch: (search: Record<string, unknown>): ClassifySearch => {
    const { model, compare, threshold, rollUp, overlay, uri } = search;
    return {
      ...(typeof model === "string" && { model }),
      ...(typeof compare === "string" && { compare }),
      ...(typeof threshold === "number" && threshold >= 0 && threshold <= 1 && { threshold }),
      ...(rollUp === true && { rollUp }),
      ...(OVERLAYS.some((known) => known === overlay) && { overlay: overlay as Overlay }),
      ...(typeof uri === "string" && { uri }),
    };
  },
  component: lazyRouteComponent(() => import("./screen"), "Classify"),
});
