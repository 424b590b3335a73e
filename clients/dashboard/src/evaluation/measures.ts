/** An image of which a person has said what it shows, with the answer of a model. */
export type Judged = {
  imageId: string;
  /** What the image shows, as people say. */
  truth: string;
  predicted: string;
  /** Of the prediction, in [0, 1]. */
  confidence: number;
};

export type Confusion = { truth: string; predicted: string; images: Judged[] };

export type CalibrationBin = {
  /** The bounds of the confidences, in [0, 1]. */
  from: number;
  to: number;
  count: number;
  meanConfidence: number;
  /** The share of right answers, in [0, 1]. */
  rightShare: number;
};

export type CurvePoint = {
  threshold: number;
  /** The share of the answers with the category that are right; null if there are none. */
  precision: number | null;
  /** The share of the images of the category that are answered with it; null if there are none. */
  recall: number | null;
};

/** Images that one model has right and another one wrong, or both wrong in two ways. */
export type Flip = { imageId: string; truth: string; before: string; after: string };

const THRESHOLDS = 20;

function isRight({ truth, predicted }: Judged): boolean {
  return truth === predicted;
}

export function rightCount(judged: readonly Judged[]): number {
  return judged.filter(isRight).length;
}

/** Returns which category is taken for which, the right answers too, the most frequent first. */
export function confusionsOf(judged: readonly Judged[]): Confusion[] {
  const cells = grouped(judged, ({ truth, predicted }) => JSON.stringify([truth, predicted]));
  return [...cells.values()]
    .flatMap((images) => (images[0] ? [{ ...images[0], images }] : []))
    .map(({ truth, predicted, images }) => ({ truth, predicted, images }))
    .sort((a, b) => b.images.length - a.images.length || a.truth.localeCompare(b.truth, "en"));
}

/** Returns the categories that are in the most mistakes, then those with the most images; at most `limit`. */
export function confusedCategories(judged: readonly Judged[], limit: number): string[] {
  const weights = new Map<string, number>();
  const add = (category: string, weight: number) =>
    weights.set(category, (weights.get(category) ?? 0) + weight);
  for (const one of judged) {
    const weight = isRight(one) ? 1 / (judged.length + 1) : 1;
    add(one.truth, weight);
    if (!isRight(one)) add(one.predicted, weight);
  }
  return [...weights]
    .sort(([a, x], [b, y]) => y - x || a.localeCompare(b, "en"))
    .slice(0, limit)
    .map(([category]) => category);
}

/** Returns how often answers are right, by their confidence, in ranges of equal width that have images. */
export function calibrationOf(judged: readonly Judged[], bins: number): CalibrationBin[] {
  const binOf = ({ confidence }: Judged) => Math.min(bins - 1, Math.floor(confidence * bins));
  return [...grouped(judged, binOf)]
    .sort(([a], [b]) => a - b)
    .map(([bin, images]) => ({
      from: bin / bins,
      to: (bin + 1) / bins,
      count: images.length,
      meanConfidence: images.reduce((sum, { confidence }) => sum + confidence, 0) / images.length,
      rightShare: rightCount(images) / images.length,
    }));
}

/** Returns the expected calibration error: the mean distance of confidence and share of right answers. */
export function calibrationError(bins: readonly CalibrationBin[]): number {
  const count = bins.reduce((sum, bin) => sum + bin.count, 0);
  const distance = (bin: CalibrationBin) => Math.abs(bin.meanConfidence - bin.rightShare);
  return bins.reduce((sum, bin) => sum + (bin.count / count) * distance(bin), 0);
}

/** Returns precision and recall of a category if only answers of at least a confidence are given. */
export function curveOf(judged: readonly Judged[], category: string): CurvePoint[] {
  const shown = judged.filter(({ truth }) => truth === category);
  const answered = judged.filter(({ predicted }) => predicted === category);
  return Array.from({ length: THRESHOLDS }, (_, step) => {
    const threshold = step / THRESHOLDS;
    const given = answered.filter(({ confidence }) => confidence >= threshold);
    const right = rightCount(given);
    return {
      threshold,
      precision: given.length > 0 ? right / given.length : null,
      recall: shown.length > 0 ? right / shown.length : null,
    };
  });
}

/** Compares the answers of two models to the same images. Images with one answer only are left out. */
export function flipsOf(
  before: readonly Judged[],
  after: readonly Judged[],
): { lost: Flip[]; gained: Flip[]; wrongInTwoWays: Flip[]; compared: number } {
  const others = new Map(after.map((one) => [one.imageId, one]));
  const flips = { lost: [] as Flip[], gained: [] as Flip[], wrongInTwoWays: [] as Flip[] };
  let compared = 0;
  for (const first of before) {
    const second = others.get(first.imageId);
    if (!second) continue;
    compared++;
    if (first.predicted === second.predicted) continue;
    const { imageId, truth } = first;
    const flip = { imageId, truth, before: first.predicted, after: second.predicted };
    if (isRight(first)) flips.lost.push(flip);
    else if (isRight(second)) flips.gained.push(flip);
    else flips.wrongInTwoWays.push(flip);
  }
  return { ...flips, compared };
}

function grouped<Item, Key>(items: readonly Item[], keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
