import type { ClassifyResponse } from "../../gen/image_categorizer/v1/classify_pb";

/** A step of a call. */
export type Step = {
  name: "decode" | "wait" | "model" | "rest" | "network";
  /** After the arrival at the server, in milliseconds; of the network, from 0. */
  beginMs: number;
  ms: number;
};

/**
 * Returns the steps of a call, one after another.
 *
 * The server states how long each took, not when it began: an image waits for a decoder, is decoded, and waits for
 * its micro-batch, and both waits are one number.
 *
 * @param totalMs from the call to the answer, in milliseconds.
 * @param isCached whether the steps are those of an earlier call; then only what the call itself took is shown.
 */
export function stepsOf(
  { timing, processingTime }: Pick<ClassifyResponse, "timing" | "processingTime">,
  totalMs: number,
  isCached: boolean,
): Step[] {
  const serverMs = 1000 * processingTime;
  const known: [Step["name"], number][] =
    timing && !isCached
      ? [
          ["decode", timing.decodeMs],
          ["wait", timing.queueMs],
          ["model", timing.inferenceMs],
        ]
      : [];
  const knownMs = known.reduce((sum, [, ms]) => sum + ms, 0);
  const all: [Step["name"], number][] = [
    ...known,
    ["rest", Math.max(0, serverMs - knownMs)],
    ["network", Math.max(0, totalMs - serverMs)],
  ];
  let beginMs = 0;
  return all.map(([name, ms]) => {
    const step = { name, beginMs, ms };
    beginMs += ms;
    return step;
  });
}
