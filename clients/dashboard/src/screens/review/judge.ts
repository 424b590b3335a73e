import { createClient } from "@connectrpc/connect";
import { notifications } from "@mantine/notifications";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { problemOf } from "../../api/error";
import { eachOf } from "../../api/parallel";
import { transport } from "../../api/transport";
import { FeedbackService } from "../../gen/image_categorizer/v1/feedback_pb";
import { type ReviewItem, ReviewService } from "../../gen/image_categorizer/v1/review_pb";
import { texts } from "../../texts/en";
import { judgementOf, recentWith } from "./choices";

const CALLS_AT_ONCE = 4;
const MAX_STEPS = 100;
const feedback = createClient(FeedbackService, transport);
const reviews = createClient(ReviewService, transport);

/** What was said at once, and can be undone at once. */
type Step = { category: string; said: { imageId: string; feedbackId: string }[]; alike: string[] };

type Order = { items: ReviewItem[]; category: string; lookAlikeBits: number | undefined };

/**
 * Judges images, and undoes it.
 *
 * Images leave the list at once, and come back if the server refuses.
 *
 * @param onUndone is told the images that can be judged again.
 */
export function useJudge(onUndone: (imageIds: string[]) => void) {
  const [judged, setJudged] = useState<ReadonlySet<string>>(new Set());
  const [aside, setAside] = useState<ReadonlySet<string>>(new Set());
  const [steps, setSteps] = useState<Step[]>([]);
  const [recent, setRecent] = useState<string[]>([]);

  const judge = useMutation({
    mutationFn: async ({ items, category, lookAlikeBits }: Order) => {
      setJudged((old) => new Set([...old, ...items.map(idOf)]));
      const ended = await eachOf(items, CALLS_AT_ONCE, (item) =>
        feedback.submitFeedback({
          imageId: idOf(item),
          resultId: item.image?.result?.resultId ?? "",
          ...judgementOf(item.image?.result?.predictions ?? [], category),
          ...(lookAlikeBits === undefined ? {} : { lookAlikeBits }),
        }),
      );
      const answers = ended.flatMap(({ value }) => (value ? [value] : []));
      const alike = answers.flatMap((answer) => answer.lookAlikeImageIds);
      if (answers.length > 0) {
        const step = { category, said: answers, alike };
        setSteps((old) => [...old, step].slice(-MAX_STEPS));
        setRecent((old) => recentWith(old, category));
        setJudged((old) => new Set([...old, ...alike]));
      }
      throwFirst(ended, (items) => setJudged((old) => without(old, items.map(idOf))));
    },
    onError: tell,
  });

  const undo = useMutation({
    mutationFn: async () => {
      const last = steps.at(-1);
      if (!last) return;
      setSteps((old) => old.slice(0, -1));
      const alike = await eachOf(last.alike, CALLS_AT_ONCE, newestOf);
      const said = [...last.said, ...alike.flatMap(({ value }) => (value ? [value] : []))];
      const ended = await eachOf(said, CALLS_AT_ONCE, ({ feedbackId }) =>
        feedback.undoFeedback({ feedbackId }),
      );
      const undone = ended.flatMap(({ item, error }) => (error ? [] : [item.imageId]));
      setJudged((old) => without(old, undone));
      setAside((old) => without(old, undone));
      onUndone(undone);
      throwFirst(alike);
      throwFirst(ended);
    },
    onError: tell,
  });

  const putAside = useMutation({
    mutationFn: async (items: ReviewItem[]) => {
      setAside((old) => new Set([...old, ...items.map(idOf)]));
      const ended = await eachOf(items, CALLS_AT_ONCE, (item) =>
        reviews.skipReviewItem({ imageId: idOf(item) }),
      );
      throwFirst(ended, (items) => setAside((old) => without(old, items.map(idOf))));
    },
    onError: tell,
  });

  return { judge, undo, putAside, judged, aside, recent, last: steps.at(-1) };
}

export function idOf(item: ReviewItem): string {
  return item.image?.imageId ?? "";
}

/** Returns the feedback that counts for an image. */
async function newestOf(imageId: string): Promise<{ imageId: string; feedbackId: string }> {
  const { feedback: found } = await feedback.listFeedback({ imageId, pageSize: 10 });
  const counting = found.find(({ undoTime }) => undoTime === undefined);
  if (!counting) throw new Error(texts.review.undoneBefore);
  return { imageId, feedbackId: counting.feedbackId };
}

/** Throws the first error, if there is one, after `onFailed` was told for which items. */
function throwFirst<Item>(
  ended: { item: Item; error?: unknown }[],
  onFailed?: (items: Item[]) => void,
): void {
  const failed = ended.filter(({ error }) => error !== undefined);
  const [first] = failed;
  if (!first) return;
  onFailed?.(failed.map(({ item }) => item));
  throw first.error;
}

function tell(error: unknown): void {
  const { message } = problemOf(error);
  notifications.show({ color: "red", title: texts.review.refused, message });
}

function without(ids: ReadonlySet<string>, gone: readonly string[]): ReadonlySet<string> {
  return new Set([...ids].filter((id) => !gone.includes(id)));
}
