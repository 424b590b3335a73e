// Makes the journey in Node.js, Bun or Deno: run.mjs URL KEY PICTURE FOLDER HOOK prints JSON. Without
// FOLDER and HOOK, it is that of the second entry's resources.
import * as fs from "node:fs";
import { pathToFileURL } from "node:url";
import * as sdk from "@image-categorizer/client";
import * as resources from "@image-categorizer/client/resources";
import { journey } from "./journey.mjs";
import { resourcesJourney } from "./resources.mjs";

const [url, key, picture, folder, hook] = process.argv.slice(2);
const given = { sdk, resources, url, key, picture: new Uint8Array(fs.readFileSync(picture)), hook };
if (!folder) {
  console.log(JSON.stringify(await resourcesJourney(given)));
  process.exit();
}
const found = await journey(given);
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
