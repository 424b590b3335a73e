import "@mantine/core/styles.css";
import "./app.css";

import { TransportProvider } from "@connectrpc/connect-query";
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { lazy, StrictMode, Suspense } from "react";
import { createRoot } from "react-dom/client";
import { queries } from "./api/query";
import { transport } from "./api/transport";
import { router } from "./router";
import { theme, variables } from "./theme";

// After the first screen: no notice comes before it.
const Notices = lazy(async () => ({ default: (await import("./shell/notices")).Notices }));

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no element `root`");

createRoot(root).render(
  <StrictMode>
    <MantineProvider theme={theme} cssVariablesResolver={variables} defaultColorScheme="auto">
      <Suspense fallback={null}>
        <Notices />
      </Suspense>
      <TransportProvider transport={transport}>
        <QueryClientProvider client={queries}>
          <RouterProvider router={router} />
        </QueryClientProvider>
      </TransportProvider>
    </MantineProvider>
  </StrictMode>,
);
