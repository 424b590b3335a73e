/** Turns what the gateway writes into the SDK's values. */

import type { CategorizerError, ItemStatus } from "./failure.js";
import { BYTES, DURATIONS, ENUMS, FREE, NUMBERS, SECONDS, TIMES } from "./generated/fields.js";
import type * as wire from "./generated/types.js";
import { fromStatus } from "./statuses.js";

/** Left, top, right, bottom in pixels of the upright image; the last two are exclusive. */
export type Box = [left: number, top: number, right: number, bottom: number];

/** One category of an image. */
export interface Prediction
  extends Omit<wire.Prediction, "boundingBox" | "boundingBoxes" | "source"> {
  /** Undefined unless requested and known. */
  boundingBox?: Box | undefined;
  /** One for each object of the category that was found, the strongest first. */
  boundingBoxes: Box[];
  /**
   * CORRECTION if feedback about a similar image decided; `confidence` is then how similar. OWN_CATEGORY if it is one
   * of the tenant's own categories.
   */
  source: "MODEL" | "CORRECTION" | "OWN_CATEGORY";
}

/** What every result has. */
export interface Answer {
  /** The most probable category; undefined if there is none. */
  category: string | undefined;
  /** The confidence of `category`, in [0, 1]; undefined if there is no category. */
  confidence: number | undefined;
  /** The most confident first; empty if no category reached the threshold, or the image failed. */
  predictions: Prediction[];
}

/** The answer for one image. */
export interface Classification
  extends Answer,
    Omit<wire.ClassifyResponse, "predictions" | "success" | "processingTimeS"> {
  /** The file's name as given; empty if it has none. */
  filename: string;
  /** Seconds in the server. */
  processingTimeS: number;
}

/** The outcome for one item of a batch: predictions or an error. */
export interface BatchResult extends Answer {
  itemId: string;
  /** As given. */
  filename: string;
  /** The model version that answered; undefined if the item failed. */
  model: wire.ModelRef | undefined;
  /** The error that `classifyImage` would have thrown. */
  error: CategorizerError | undefined;
  /** What is wrong with the image: TRUNCATED if the end of the file is missing. */
  warnings: wire.BatchClassification["warnings"];
}

/** A batch as it was when the server answered. */
export interface Batch extends Omit<wire.Batch, "failures"> {
  /** The number of items that have an outcome. */
  doneCount: number;
  /** The share of the items that have an outcome, in [0, 1]. */
  progress: number;
  /** Whether it is COMPLETED, CANCELLED or FAILED; only a retry changes that. */
  hasEnded: boolean;
  /** The first failures, at most 20. */
  failures: BatchResult[];
}

/** What a model found in a stored image. */
export interface ImageResult extends Answer, Omit<wire.ImageResult, "predictions"> {}

/** A stored image, without its content. */
export interface StoredImage extends Omit<wire.Image, "result"> {
  /** The newest classification; undefined if there is none. */
  result?: ImageResult | undefined;
}

/** A stored image, and how similar it is. */
export interface SimilarImage extends Omit<wire.SimilarImage, "image"> {
  image: StoredImage;
}

/** Returns a field's name in the SDK. */
function camelCase(name: string): string {
  return (
    SECONDS[name] ?? name.replace(/(?<=[a-z0-9])_([a-z0-9])/g, (_, letter) => letter.toUpperCase())
  );
}

/** Returns a JSON value with the SDK's names and types. */
export function decode(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(decode);
  if (value === null || typeof value !== "object") return value;
  const found: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(value)) {
    const decoded = FREE.has(name) ? field : decodeField(name, field);
    const isDuration = DURATIONS.has(name) && typeof field === "string";
    if (decoded !== undefined) found[camelCase(name) + (isDuration ? "S" : "")] = decoded;
  }
  return found;
}

function decodeField(name: string, value: unknown): unknown {
  if (typeof value !== "string") return decode(value);
  if (TIMES.has(name)) return new Date(value);
  if (DURATIONS.has(name)) return Number.parseFloat(value);
  if (NUMBERS.has(name)) return Number(value);
  if (BYTES.has(name)) return value ? fromBase64(value) : undefined;
  if (ENUMS.has(name) && value.endsWith("_UNSPECIFIED")) return undefined;
  return value;
}

/** Returns the bytes of base64 of either alphabet. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const usual = text.replace(/\s+/g, "").replace(/-/g, "+").replace(/_/g, "/");
  return Uint8Array.from(atob(usual), (character) => character.charCodeAt(0));
}

/** Returns the base64 of bytes. */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let start = 0; start < bytes.length; start += 0x8000)
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  return btoa(binary);
}

function prediction(given: wire.Prediction): Prediction {
  const boundingBoxes = given.boundingBoxes.map(
    ({ xMin, yMin, xMax, yMax }): Box => [xMin, yMin, xMax, yMax],
  );
  const box = given.boundingBox as unknown as Box;
  return {
    ...given,
    boundingBox: box.length ? box : undefined,
    boundingBoxes,
    source: given.source ?? "MODEL",
  };
}

function answer(given: readonly wire.Prediction[] | undefined): Answer {
  const predictions = (given ?? []).map(prediction);
  const [best] = predictions;
  return { category: best?.category, confidence: best?.confidence, predictions };
}

/** Returns the answer for one image. */
export function classification(filename: string, given: wire.ClassifyResponse): Classification {
  const { success: _, predictions, ...rest } = given;
  return { ...answer(predictions), filename, ...rest } as Classification;
}

/** Returns a batch. */
export function batch(given: wire.Batch): Batch {
  const doneCount = given.succeededCount + given.failedCount;
  return {
    ...given,
    doneCount,
    progress: given.itemCount ? doneCount / given.itemCount : 1,
    hasEnded: ["COMPLETED", "CANCELLED", "FAILED"].includes(given.state),
    failures: given.failures.map(batchResult),
  };
}

/** Returns the outcome of an item, or its failure. */
export function batchResult(given: wire.BatchResult | wire.BatchFailure): BatchResult {
  const done = "classification" in given ? given.classification : undefined;
  return {
    ...answer(done?.predictions),
    itemId: given.itemId,
    filename: given.filename,
    model: done?.model,
    error: failure(given.status),
    warnings: done?.warnings ?? [],
  };
}

function failure(status: ItemStatus): CategorizerError | undefined {
  return status.code ? fromStatus(status, "") : undefined;
}

/** Returns a stored image. */
export function storedImage(given: wire.Image): StoredImage {
  const { result, ...rest } = given;
  return result ? { ...rest, result: { ...result, ...answer(result.predictions) } } : rest;
}

/** Returns similar images. */
export function similarImages(given: wire.SimilarImages): SimilarImage[] {
  return given.images.map((found) => ({ ...found, image: storedImage(found.image) }));
}
