import type { Prediction } from "../../gen/image_categorizer/v1/types_pb";

/** A category of any level, with its confidence. */
export type Level = {
  category: string;
  /** In [0, 1]. */
  confidence: number;
  /** Broader categories, nearest first. */
  ancestors: string[];
};

type Outcome = Pick<Prediction, "category" | "confidence" | "ancestors">;

/**
 * Returns the level that the model is sure of, and the model's categories below it: what the server answers with
 * `ClassifyOptions.roll_up`, so that the slider need not ask it.
 *
 * @param predictions all of the model's, most confident first.
 * @param threshold minimum confidence of the level.
 * @param isExclusive whether confidences sum to 1 (`Model.activation`); otherwise a broader category has the largest.
 * @returns null if no level reaches the threshold.
 */
export function rolledUp<P extends Outcome>(
  predictions: P[],
  threshold: number,
  isExclusive: boolean,
): { level: Level; below: P[] } | null {
  const levels = levelsOf(predictions, isExclusive).filter(
    ({ confidence }) => confidence >= threshold,
  );
  const surpassed = new Set(levels.flatMap(({ ancestors }) => ancestors));
  const [level] = levels
    .filter(({ category }) => !surpassed.has(category))
    .sort((a, b) => b.confidence - a.confidence || b.ancestors.length - a.ancestors.length);
  if (!level) return null;
  const below = predictions.filter(
    ({ category, ancestors }) => category !== level.category && ancestors.includes(level.category),
  );
  return { level, below };
}

/** Returns each category, and each broader one with the confidences below it put together. */
export function levelsOf(predictions: Outcome[], isExclusive: boolean): Level[] {
  const found = new Map<string, Level>();
  for (const { category, confidence, ancestors } of predictions) {
    found.set(category, { category, confidence, ancestors });
  }
  for (const { category, confidence, ancestors } of predictions) {
    ancestors.forEach((name, place) => {
      if (name === category) return;
      const level = found.get(name) ?? {
        category: name,
        confidence: 0,
        ancestors: ancestors.slice(place + 1),
      };
      // Above a broader category is what is above it wherever it is named.
      level.ancestors = level.ancestors.filter((above) => ancestors.includes(above));
      level.confidence = isExclusive
        ? Math.min(1, level.confidence + confidence)
        : Math.max(level.confidence, confidence);
      found.set(name, level);
    });
  }
  return [...found.values()];
}
