// Builds dist/: for each entry one file for ESM, one for CommonJS, and the types of both.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(fileURLToPath(import.meta.url));
process.chdir(root);
rmSync("dist", { recursive: true, force: true });
for (const [format, folder] of [
  ["esm", "esm"],
  ["cjs", "cjs"],
]) {
  await build({
    // Not split: `index.js` is one file, which a page imports as it is.
    entryPoints: ["src/index.ts", "src/resources.ts"],
    bundle: true,
    format,
    outdir: `dist/${folder}`,
    platform: "neutral",
    target: "es2022",
    minifyIdentifiers: true,
    keepNames: true,
    minifyWhitespace: true,
    minifySyntax: true,
    sourcemap: true,
    legalComments: "none",
  });
}
execFileSync(join("node_modules", ".bin", "tsc"), ["-p", "tsconfig.build.json"], {
  stdio: "inherit",
});
cpSync("dist/esm", "dist/cjs", { recursive: true, filter: (path) => !path.includes(".js") });
mkdirSync("dist/cjs", { recursive: true });
// Within it, `.js` and `.d.ts` are CommonJS.
writeFileSync("dist/cjs/package.json", '{ "type": "commonjs" }\n');
