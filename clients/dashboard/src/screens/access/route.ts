import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "../../root";

const TABS = [
  "keys",
  "webhooks",
  "audit",
  "subjects",
  "retention",
  "usage",
  "tenants",
  "roles",
] as const;

export type Tab = (typeof TABS)[number];

export type AccessSearch = {
  tab?: Tab;
  webhook?: string;
  actor?: string;
  action?: string;
  resource?: string;
  outcome?: "OK" | "DENIED";
};

const WORDS = ["webhook", "actor", "action", "resource"] as const;

export const accessRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/ui/access",
  validateSearch: (search: Record<string, unknown>): AccessSearch => {
    const found: AccessSearch = {};
    const tab = TABS.find((known) => known === search.tab);
    if (tab) found.tab = tab;
    for (const name of WORDS) {
      if (typeof search[name] === "string" && search[name]) found[name] = search[name];
    }
    if (search.outcome === "OK" || search.outcome === "DENIED") found.outcome = search.outcome;
    return found;
  },
  component: lazyRouteComponent(() => import("./screen"), "Access"),
});
