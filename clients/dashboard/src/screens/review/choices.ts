import { Feedback_Judgement as Judgement } from "../../gen/image_categorizer/v1/feedback_pb";
import type { Prediction } from "../../gen/image_categorizer/v1/types_pb";

/** What images are called that show no category of the model. */
export const NO_CATEGORY = "UNKNOWN";
const MAX_CHOICES = 9;

/** A category that a digit chooses. */
export type Choice = {
  category: string;
  /** In [0, 1]; absent if the model has not predicted the category. */
  confidence?: number;
};

/** Returns what the keys 1 to 9 choose: the predictions of an image, then what was chosen last. */
export function choicesOf(predictions: readonly Prediction[], recent: readonly string[]): Choice[] {
  const choices: Choice[] = predictions.map(({ category, confidence }) => ({
    category,
    confidence,
  }));
  choices.push(...recent.map((category) => ({ category })));
  const seen = new Set([NO_CATEGORY]);
  const isNew = ({ category }: Choice) => !seen.has(category) && seen.add(category);
  return choices.filter(isNew).slice(0, MAX_CHOICES);
}

/** Returns what to say about an image that shows a category, or `NO_CATEGORY`. */
export function judgementOf(
  predictions: readonly Prediction[],
  category: string,
): { judgement: Judgement; category: string } {
  if (predictions[0]?.category === category) return { judgement: Judgement.RIGHT, category: "" };
  if (category === NO_CATEGORY) return { judgement: Judgement.NOT_IN_LIST, category: "" };
  return { judgement: Judgement.WRONG, category };
}

/** Returns the categories that were chosen last, with one more, which goes first. */
export function recentWith(recent: readonly string[], category: string): string[] {
  if (category === NO_CATEGORY) return [...recent];
  return [category, ...recent.filter((other) => other !== category)].slice(0, MAX_CHOICES);
}
