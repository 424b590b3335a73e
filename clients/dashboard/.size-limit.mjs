// What a browser loads before it shows the first screen: the scripts that index.html names.
import { readFileSync } from "node:fs";
import { join } from "node:path";

const site = process.env.DASHBOARD_OUT ?? "../../.build/dashboard";
const page = readFileSync(join(site, "index.html"), "utf8");
const scripts = [...page.matchAll(/(?:src|href)="\/ui\/(assets\/[^"]+\.js)"/g)].map((m) => m[1]);

export default [
  {
    name: "first load",
    path: scripts.map((script) => join(site, script)),
    limit: "250 kB",
    gzip: true,
  },
];
