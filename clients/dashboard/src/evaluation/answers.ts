import type { Feedback } from "../gen/image_categorizer/v1/feedback_pb";
import type { Image } from "../gen/image_categorizer/v1/image_pb";
import type { Prediction } from "../gen/image_categorizer/v1/types_pb";
import type { Judged } from "./measures";

/** A stored image, and what people say that it shows. */
export type Reviewed = { image: Image; truth: string };

/** Returns images with what people said about them last, which is first in the list. */
export function reviewedOf(stored: readonly Image[], said: readonly Feedback[]): Reviewed[] {
  const truths = new Map<string, string>();
  for (const { imageId, category, undoTime } of said) {
    if (!undoTime && !truths.has(imageId)) truths.set(imageId, category);
  }
  return stored.flatMap((image) => {
    const truth = truths.get(image.imageId);
    return truth === undefined ? [] : [{ image, truth }];
  });
}

/** Returns what a model has answered itself: the first prediction that comes from neither feedback nor examples. */
export function ownAnswer(predictions: readonly Prediction[]): Prediction | undefined {
  return predictions.find(({ source }) => source === undefined);
}

/** Returns the answers that are stored with images; they may come from several models. */
export function storedAnswers(reviewed: readonly Reviewed[]): Judged[] {
  return reviewed.flatMap(({ image, truth }) => {
    const answer = ownAnswer(image.result?.predictions ?? []);
    return answer ? [judgedOf(image.imageId, truth, answer)] : [];
  });
}

export function judgedOf(imageId: string, truth: string, answer: Prediction): Judged {
  return { imageId, truth, predicted: answer.category, confidence: answer.confidence };
}
