import { createRoute, createRouter, redirect } from "@tanstack/react-router";
import { rootRoute } from "./root";
import { accessRoute } from "./screens/access/route";
import { batchesRoute, batchRoute } from "./screens/batches/route";
import { categoriesRoute } from "./screens/categories/route";
import { classifyRoute } from "./screens/classify/route";
import { libraryRoute } from "./screens/library/route";
import { modelsRoute } from "./screens/models/route";
import { operationsRoute } from "./screens/operations/route";
import { reviewRoute } from "./screens/review/route";
import { startRoute } from "./screens/start/route";
import { Broken } from "./shell/broken";

function toStart(path: string) {
  return createRoute({
    getParentRoute: () => rootRoute,
    path,
    beforeLoad: () => {
      throw redirect({ to: "/ui/start", replace: true });
    },
  });
}

const routes = rootRoute.addChildren([
  toStart("/"),
  toStart("/ui"),
  startRoute,
  classifyRoute,
  batchesRoute,
  batchRoute,
  reviewRoute,
  libraryRoute,
  categoriesRoute,
  modelsRoute,
  operationsRoute,
  accessRoute,
]);

export const router = createRouter({
  routeTree: routes,
  defaultPreload: "intent",
  defaultErrorComponent: Broken,
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
