// Makes the journey in Node.js, Bun or Deno: run.mjs URL KEY PICTURE FOLDER HOOK prints JSON.
import * as fs from "node:fs";
import { pathToFileURL } from "node:url";
import * as sdk from "@image-categorizer/client";
import { journey } from "./journey.mjs";

const [url, key, picture, folder, hook] = process.argv.slice(2);
const found = await journey({
  sdk,
  url,
  key,
  picture: new Uint8Array(fs.readFileSync(picture)),
  hook,
});
const client = new sdk.ImageCategorizer({ apiKey: key, baseUrl: url });
for (const [name, source] of Object.entries({
  path: picture,
  url: pathToFileURL(picture),
  nodeStream: fs.createReadStream(picture),
})) {
  const { filename, category, confidence, predictions, model } = await client.classifyImage(
    source,
    { topK: 2 },
  );
  found.answers[name] = [filename, category, confidence, predictions.length, model.name];
}
found.folder = [];
for await (const result of client.classifyBatch(folder)) found.folder.push(result.filename);
try {
  await client.classifyImage("no-such-file.jpg");
} catch (error) {
  found.missing = error.code;
}
console.log(JSON.stringify(found));
