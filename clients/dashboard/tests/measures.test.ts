import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { reviewedOf, storedAnswers } from "../src/evaluation/answers";
import {
  calibrationError,
  calibrationOf,
  confusedCategories,
  confusionsOf,
  curveOf,
  flipsOf,
  type Judged,
} from "../src/evaluation/measures";
import { FeedbackSchema } from "../src/gen/image_categorizer/v1/feedback_pb";
import { ImageSchema } from "../src/gen/image_categorizer/v1/image_pb";
import { Prediction_Source as Source } from "../src/gen/image_categorizer/v1/types_pb";

function judged(imageId: string, truth: string, predicted: string, confidence: number): Judged {
  return { imageId, truth, predicted, confidence };
}

const four = [
  judged("a", "cat", "cat", 0.9),
  judged("b", "cat", "dog", 0.6),
  judged("c", "dog", "dog", 0.8),
  judged("d", "fox", "dog", 0.3),
];

describe("precision and recall", () => {
  it("follow the threshold, and are absent where nothing is answered or shown", () => {
    const at = (threshold: number) =>
      curveOf(four, "dog").find((point) => Math.abs(point.threshold - threshold) < 1e-9);
    expect(at(0)).toEqual({ threshold: 0, precision: 1 / 3, recall: 1 });
    expect(at(0.5)).toEqual({ threshold: 0.5, precision: 1 / 2, recall: 1 });
    expect(at(0.7)).toEqual({ threshold: 0.7, precision: 1, recall: 1 });
    expect(at(0.9)).toEqual({ threshold: 0.9, precision: null, recall: 0 });
    expect(curveOf(four, "fox")[0]).toEqual({ threshold: 0, precision: null, recall: 0 });
    expect(curveOf(four, "owl")[0]?.recall).toBeNull();
  });
});

describe("confusions", () => {
  it("count each pair, and put the categories of most mistakes first", () => {
    const cells = confusionsOf([...four, judged("e", "cat", "dog", 0.5)]);
    expect(cells[0]).toMatchObject({ truth: "cat", predicted: "dog" });
    expect(cells[0]?.images.map(({ imageId }) => imageId)).toEqual(["b", "e"]);
    expect(cells).toHaveLength(4);
    const right = Array.from({ length: 50 }, () => judged("x", "owl", "owl", 1));
    expect(confusedCategories([...right, ...four], 3)).toEqual(["dog", "cat", "fox"]);
    expect(confusedCategories([...right, ...four], 9)).toContain("owl");
  });
});

describe("calibration", () => {
  it("compares confidence with the share of right answers, in ranges that have images", () => {
    const bins = calibrationOf([...four, judged("e", "cat", "cat", 1)], 10);
    expect(bins.map(({ from, count }) => [from, count])).toEqual([
      [0.3, 1],
      [0.6, 1],
      [0.8, 1],
      [0.9, 2],
    ]);
    expect(bins[3]?.meanConfidence).toBeCloseTo(0.95);
    expect(calibrationError(bins)).toBeCloseTo((0.3 + 0.6 + 0.2 + 2 * 0.05) / 5);
  });
});

describe("flips", () => {
  it("tell lost, gained and wrong in two ways apart, and leave out what only one has answered", () => {
    const after = [
      judged("a", "cat", "dog", 0.5),
      judged("b", "cat", "cat", 0.5),
      judged("d", "fox", "cat", 0.5),
    ];
    const { lost, gained, wrongInTwoWays, compared } = flipsOf(four, after);
    expect(lost).toEqual([{ imageId: "a", truth: "cat", before: "cat", after: "dog" }]);
    expect(gained.map(({ imageId }) => imageId)).toEqual(["b"]);
    expect(wrongInTwoWays.map(({ imageId }) => imageId)).toEqual(["d"]);
    expect(compared).toBe(3);
  });
});

describe("reviewed images", () => {
  const image = (imageId: string, source?: Source) =>
    create(ImageSchema, {
      imageId,
      result: {
        predictions: [
          ...(source === undefined ? [] : [{ category: "lynx", confidence: 0.99, source }]),
          { category: "tabby", confidence: 0.5 },
        ],
      },
    });

  it("show what was said last about them and not undone", () => {
    const said = [
      create(FeedbackSchema, { imageId: "a", category: "fox", undoTime: timestampFromMs(1) }),
      create(FeedbackSchema, { imageId: "a", category: "lynx" }),
      create(FeedbackSchema, { imageId: "a", category: "tabby" }),
    ];
    const found = reviewedOf([image("a"), image("b")], said);
    expect(found.map((one) => [one.image.imageId, one.truth])).toEqual([["a", "lynx"]]);
  });

  it("count with the answer of the model, not with what feedback or examples made of it", () => {
    const said = ["a", "b"].map((imageId) => create(FeedbackSchema, { imageId, category: "lynx" }));
    const stored = [image("a", Source.CORRECTION), image("b", Source.OWN_CATEGORY)];
    expect(storedAnswers(reviewedOf(stored, said)).map(({ predicted }) => predicted)).toEqual([
      "tabby",
      "tabby",
    ]);
  });
});
