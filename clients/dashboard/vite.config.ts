import babel from "@rolldown/plugin-babel";
import react, { reactCompilerPreset } from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// Where `npm run dev` finds the API: a running `image-categorizer up`.
const api = process.env.VITE_API_URL ?? "http://127.0.0.1:8080";
const paths = ["/v1", "/auth", "/docs", "/openapi.yaml", "/image_categorizer.v1"];

export default defineConfig({
  base: "/ui/",
  logLevel: process.env.npm_lifecycle_event === "build" ? "warn" : "info",
  plugins: [react(), babel({ presets: [reactCompilerPreset()] })],
  build: {
    outDir: process.env.DASHBOARD_OUT ?? "../../.build/dashboard",
    emptyOutDir: true,
    target: "es2022",
    // A picture in the script would be a `data:` address; style sheets may not load those.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 900,
    rolldownOptions: { checks: { pluginTimings: false } },
  },
  server: { proxy: Object.fromEntries(paths.map((path) => [path, api])) },
  test: { include: ["tests/**/*.test.ts"] },
});
