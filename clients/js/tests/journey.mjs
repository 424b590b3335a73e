// What a user does with the client, in any runtime, against a running server.

/** Returns what it found; throws if a promise of the client does not hold. */
export async function journey({ sdk, url, key, picture, hook }) {
  const { ImageCategorizer, CategorizerError, UndecodableImage } = sdk;
  const client = new ImageCategorizer({ apiKey: key, baseUrl: url });
  const found = {};

  found.caller = (await client.caller()).role;
  found.formats = (await client.serverInfo()).imageFormats;

  const base64 = btoa(Array.from(picture, (byte) => String.fromCharCode(byte)).join(""));
  const sources = {
    bytes: picture,
    buffer: picture.buffer.slice(picture.byteOffset, picture.byteOffset + picture.byteLength),
    blob: new Blob([picture]),
    file: new File([picture], "cat.jpg"),
    stream: new Blob([picture]).stream(),
    base64,
    data: `data:image/jpeg;base64,${base64}`,
    named: { filename: "cat.jpg", image: picture },
  };
  found.answers = {};
  for (const [name, source] of Object.entries(sources)) {
    const { filename, category, confidence, predictions, model, timing, cache } =
      await client.classifyImage(source, { topK: 2, noCache: true });
    check(cache === undefined && timing.batchSize >= 1, `${name}: cache ${cache}`);
    const boxes = predictions.map(({ boundingBox, source }) => [boundingBox, source]);
    check(JSON.stringify(boxes) === '[[null,"MODEL"],[null,"MODEL"]]', `${name}: ${boxes}`);
    found.answers[name] = [filename, category, confidence, predictions.length, model.name];
  }
  const shown = await client.classifyImage(picture, { boundingBoxes: true, explain: true });
  check(shown.heatMap instanceof Uint8Array && shown.heatMap[0] === 0x89, "no heat map");
  found.box = shown.predictions[0].boundingBox;

  found.refused = await caught(() => client.classifyImage(new Uint8Array([1, 2, 3])));
  check(
    (await thrown(() => client.classifyImage(new Uint8Array(3)))) instanceof UndecodableImage,
    "",
  );
  const stranger = new ImageCategorizer({ apiKey: `${key}x`, baseUrl: url });
  found.stranger = await caught(() => stranger.caller());
  found.invalid = await caught(() => client.classifyImage(picture, { topK: -1 }));
  found.late = await caught(() => client.classifyImage(picture, { timeoutS: 1e-9 }));
  const reason = await thrown(() => client.caller({ signal: AbortSignal.abort("enough") }));
  check(reason === "enough", `the abort's reason is ${reason}`);

  const images = [
    { filename: 'a "1".jpg', image: picture },
    new File([picture], "b.jpg"),
    { filename: "bad.jpg", image: new Uint8Array([0]) },
  ];
  let batch = await client.submitBatch(images, { topK: 1 });
  check(batch.createTime instanceof Date && batch.itemCount === 3, "not the batch");
  for await (batch of client.watchBatch(batch.batchId)) check(batch.progress <= 1, "progress");
  check(batch.hasEnded && batch.progress === 1 && batch.doneCount === 3, "it has not ended");
  found.batch = [batch.state, batch.succeededCount, batch.failures.map(itemOf)];
  found.results = (await all(client.batches.results(batch.batchId))).map(itemOf);
  const csv = await new Response(
    streamOf(client.batches.export(batch.batchId, { format: "csv" })),
  ).text();
  found.csv = csv.trim().split("\n").length;
  const requestId = crypto.randomUUID();
  const again = await client.submitBatch(images, { requestId, topK: 1 });
  const same = await client.submitBatch(images, { requestId, topK: 1 });
  check(again.batchId === same.batchId, "a request id made two batches");
  const progress = [];
  const lazy = client.classifyBatch(lazily(picture), {
    onProgress: (at) => progress.push(at.state),
  });
  found.lazy = (await all(lazy)).map(itemOf);
  check(progress.at(-1) === "COMPLETED", `the progress is ${progress}`);
  const broken = await thrown(() => client.submitBatch(failing(picture)));
  check(broken?.message === "no more", `a source's error is ${broken}`);

  const image = await client.images.upload(sources.file, { tags: ["js"] });
  check(image.createTime instanceof Date && image.filename === "cat.jpg", "not the image");
  const thumbnail = await client.images.content(image.imageId, { width: 8, format: "png" });
  found.thumbnail = thumbnail.type;
  await client.images.update(image.imageId, { tags: ["js", "cat"] });
  found.tags = (await all(client.images.list({ tags: ["cat"] }))).map((one) => one.tags);
  const stored = await client.classifyImage({ imageId: image.imageId }, { store: true });
  const other = (await all(client.models.categories())).map((one) => one.category);
  const wrong = other.find((name) => name !== stored.category);
  const corrected = await client.images.correct(image.imageId, wrong);
  const after = await eventually(
    () => client.classifyImage(picture, { noCache: true }),
    (answer) => answer.category === wrong,
  );
  found.correction = [after.predictions[0].source, after.neighbours.length];
  check((await client.feedback.undo(corrected.feedbackId)).undoTime instanceof Date, "not undone");
  found.feedback = (await all(client.feedback.list({ imageId: image.imageId }))).length;
  found.similar = (await client.images.like(picture, { limit: 1 })).map((one) => one.image.imageId);
  check(found.similar[0] === image.imageId, "the picture is not like itself");
  found.dimensions = (await client.embed(sources.blob)).vector.length;
  await client.images.delete(image.imageId);
  found.gone = await caught(() => client.images.get(image.imageId));

  found.models = (await all(client.models.list())).map((model) => [model.name, model.state]);
  const webhook = await client.webhooks.create(hook);
  check(webhook.secret.startsWith("whsec_"), "no secret");
  await client.webhooks.update(webhook.webhookId, { enabled: false });
  found.webhook = (await client.webhooks.get(webhook.webhookId)).state;
  await client.webhooks.delete(webhook.webhookId);
  const made = await client.keys.create("js", "viewer", { expireTime: new Date(Date.now() + 1e8) });
  const viewer = new ImageCategorizer({ tokenProvider: async () => made.secret, baseUrl: url });
  found.viewer = await caught(() => viewer.classifyImage(picture));
  check((await client.keys.update(made.keyId, { expireTime: null })).expireTime === undefined, "");
  found.key = (await client.keys.revoke(made.keyId)).state;
  const usage = await client.usage({ groupBy: "model" });
  check(usage.total.images > 0 && usage.total.bytes > 0, "no usage");
  check((await thrown(() => viewer.caller({ signal: AbortSignal.timeout(0) }))) !== undefined, "");
  check(!((await thrown(() => client.batches.get(""))) === undefined), "an empty id is one");
  check(CategorizerError.name === "CategorizerError", "names are lost");
  return found;
}

function check(holds, message) {
  if (!holds) throw new Error(message || "a check failed");
}

function itemOf({ itemId, filename, category, error }) {
  return [itemId, filename, category ?? error.reason];
}

async function all(iterator) {
  const found = [];
  for await (const one of iterator) found.push(one);
  return found;
}

async function* lazily(picture) {
  for (let number = 0; number < 3; number += 1) yield { filename: `${number}.jpg`, image: picture };
}

async function* failing(picture) {
  yield picture;
  throw new Error("no more");
}

function streamOf(iterator) {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

async function thrown(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
}

async function caught(work) {
  const error = await thrown(work);
  if (!error) throw new Error("no error");
  const { name, reason, status, violations, requestId } = error;
  return [name, reason, status, violations?.map(({ field }) => field), Boolean(requestId)];
}

async function eventually(ask, isRight) {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const answer = await ask();
    if (isRight(answer)) return answer;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the answer stays as it was");
}
