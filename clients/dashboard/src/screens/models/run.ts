import { createClient } from "@connectrpc/connect";
import { useMutation } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { eachOf } from "../../api/parallel";
import { transport } from "../../api/transport";
import { judgedOf, ownAnswer, type Reviewed } from "../../evaluation/answers";
import type { Judged } from "../../evaluation/measures";
import { ClassifyService } from "../../gen/image_categorizer/v1/classify_pb";

const CALLS_AT_ONCE = 4;
/** Feedback about an image stands before the model's own answers to it. */
const TOP_K = 3;
const classify = createClient(ClassifyService, transport);

export type Subject = { model: string; version: string };

/** What a version answers to reviewed images, and how many it could not be asked about. */
export type Run = { judged: Judged[]; failedCount: number };

/** Classifies reviewed images by one or more versions of a model, one version after the other. */
export function useRun() {
  const [doneCount, setDoneCount] = useState(0);
  const stop = useRef(new AbortController());
  useEffect(() => () => stop.current.abort(), []);
  const run = useMutation({
    mutationFn: async (order: { reviewed: readonly Reviewed[]; subjects: Subject[] }) => {
      stop.current = new AbortController();
      const { signal } = stop.current;
      setDoneCount(0);
      const runs: Run[] = [];
      for (const subject of order.subjects) {
        const ended = await eachOf(
          order.reviewed,
          CALLS_AT_ONCE,
          async (one) => {
            const judged = await answerTo(one, subject, signal);
            setDoneCount((old) => old + 1);
            return judged;
          },
          signal,
        );
        const judged = ended.flatMap(({ value }) => (value ? [value] : []));
        const failed = ended.filter(({ error }) => error !== undefined);
        if (failed[0] && judged.length === 0) throw failed[0].error;
        runs.push({ judged, failedCount: failed.length });
      }
      return runs;
    },
  });
  return { run, doneCount, stop: () => stop.current.abort() };
}

async function answerTo(
  { image, truth }: Reviewed,
  subject: Subject,
  signal: AbortSignal,
): Promise<Judged | undefined> {
  const answer = await classify.classify(
    {
      source: { case: "imageId", value: image.imageId },
      options: { ...subject, topK: TOP_K, rollUp: false },
    },
    { signal },
  );
  const own = ownAnswer(answer.predictions);
  return own && judgedOf(image.imageId, truth, own);
}
