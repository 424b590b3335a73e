// What a user does with the resources of the second entry, in any runtime, against a running server.

/** Returns what it found; throws if a promise of a resource does not hold. */
export async function resourcesJourney({ sdk, resources, url, key, picture }) {
  const client = new sdk.ImageCategorizer({ apiKey: key, baseUrl: url });
  const found = {};
  found.upload = await inParts(sdk, client, new resources.Uploads(client), picture);
  found.category = await taught(client, new resources.OwnCategories(client), picture);
  found.reviews = await reviewed(client, new resources.Reviews(client), picture);
  found.subject = await erased(client, new resources.Subjects(client), picture);
  found.audit = await audited(new resources.Audit(client));
  return found;
}

async function inParts(sdk, client, uploads, picture) {
  const middle = Math.floor(picture.length / 2);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", picture));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const begun = await uploads.create(picture.length, { sha256, filename: "cat.jpg", tags: ["js"] });
  const half = await uploads.append(begun.uploadId, 0, picture.slice(0, middle));
  check(half.offset === middle && half.expireTime instanceof Date, "the part is not there");
  let wrong;
  try {
    await uploads.append(begun.uploadId, 1, picture.slice(1, 2));
  } catch (error) {
    wrong = error;
  }
  check(wrong instanceof sdk.UploadOffsetWrong, `a wrong offset is ${wrong}`);
  const offsets = [];
  const image = await uploads.send(
    { filename: "cat.jpg", image: picture },
    {
      tags: ["js"],
      partBytes: Math.ceil(middle / 2) + 1,
      onProgress: ({ offset }) => offsets.push(offset),
    },
  );
  check(offsets[0] > middle && offsets.length === 2, `the parts end at ${offsets}`);
  check((await uploads.get(begun.uploadId)).imageId === image.imageId, "another upload");
  await client.images.delete(image.imageId);
  const given = await uploads.create(10, { filename: "a.jpg" });
  await uploads.cancel(given.uploadId);
  return [image.filename, image.tags, image.widthPx];
}

async function taught(client, categories, picture) {
  const made = await categories.create("js thing", { images: [picture] });
  check(made.exampleCount === 1 && made.createTime instanceof Date, "not the category");
  const answer = await eventually(
    () => client.classifyImage(picture, { noCache: true }),
    ({ predictions }) => predictions[0].source === "OWN_CATEGORY",
  );
  const { imageIds } = await categories.get("js thing");
  const names = (await all(categories.list())).map(({ category }) => category);
  check(
    (await categories.addExamples("js thing", { imageIds })).exampleCount === 1,
    "two examples",
  );
  const { kind } = await categories.head();
  await categories.removeExample("js thing", imageIds[0]);
  await categories.delete("js thing");
  await client.images.delete(imageIds[0]);
  return [answer.category, names.includes("js thing"), kind];
}

async function reviewed(client, reviews, picture) {
  const { imageId } = await client.classifyImage(picture, { store: true });
  const listed = (await all(reviews.list())).find(({ image }) => image.imageId === imageId);
  const skipped = await reviews.skip(imageId);
  check(skipped.skipTime instanceof Date, "it is not put aside");
  const aside = (await all(reviews.list({ skipped: true }))).map(({ image }) => image.imageId);
  const { resultCount } = await reviews.agreement({ endTime: new Date(0) });
  await client.images.delete(imageId);
  return [listed.image.result.category !== undefined, aside.includes(imageId), resultCount];
}

async function erased(client, subjects, picture) {
  const subjectId = `js-${crypto.randomUUID()}`;
  await client.images.upload(picture, { subjectId });
  const pieces = await all(subjects.export(subjectId));
  check(pieces[0][0] === 0x50 && pieces[0][1] === 0x4b, "no zip file");
  const { erasureId, subjectKey } = await subjects.erase(subjectId);
  const done = await eventually(
    () => subjects.erasure(erasureId),
    ({ state }) => state === "DONE",
  );
  check(done.certificate && done.removed.length > 0, "no certificate");
  const ids = (await all(subjects.erasures())).map((erasure) => erasure.erasureId);
  const allowed = await subjects.allow(`key:${subjectKey}`);
  return [ids.includes(erasureId), allowed.allowTime instanceof Date];
}

async function audited(audit) {
  const events = await all(
    audit.list({ action: "subject.", startTime: new Date(Date.now() - 6e4) }),
  );
  check(events[0].time instanceof Date && Number.isInteger(events[0].seq), "not an event");
  const file = await new Blob(
    await all(audit.export({ format: "csv", action: "subject." })),
  ).text();
  return [events[0].outcome, file.split("\n").length > events.length];
}

function check(holds, message) {
  if (!holds) throw new Error(message);
}

async function all(iterator) {
  const found = [];
  for await (const one of iterator) found.push(one);
  return found;
}

async function eventually(ask, isRight) {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const answer = await ask();
    if (isRight(answer)) return answer;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the answer stays as it was");
}
