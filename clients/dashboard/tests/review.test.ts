import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { Feedback_Judgement as Judgement } from "../src/gen/image_categorizer/v1/feedback_pb";
import { PredictionSchema } from "../src/gen/image_categorizer/v1/types_pb";
import { choicesOf, judgementOf, NO_CATEGORY, recentWith } from "../src/screens/review/choices";
import { strengthOf } from "../src/screens/review/kappa";
import {
  cursorOf,
  moveTo,
  NOTHING_CHOSEN,
  targetsOf,
  toggle,
} from "../src/screens/review/selection";

const predictions = [
  create(PredictionSchema, { category: "tabby", confidence: 0.5 }),
  create(PredictionSchema, { category: "lynx", confidence: 0.25 }),
];

describe("what keys choose", () => {
  it("is the predictions, then what was chosen last, each once and never none of the list", () => {
    const unknown = create(PredictionSchema, { category: NO_CATEGORY });
    expect(choicesOf([unknown, ...predictions], ["lynx", "fox"])).toEqual([
      { category: "tabby", confidence: 0.5 },
      { category: "lynx", confidence: 0.25 },
      { category: "fox" },
    ]);
    const many = Array.from({ length: 20 }, (_, index) => `category ${index}`);
    expect(choicesOf(predictions, many)).toHaveLength(9);
  });

  it("confirms the first prediction, and corrects it otherwise", () => {
    const right = { judgement: Judgement.RIGHT, category: "" };
    const none = { judgement: Judgement.NOT_IN_LIST, category: "" };
    expect(judgementOf(predictions, "tabby")).toEqual(right);
    expect(judgementOf(predictions, "lynx")).toEqual({
      judgement: Judgement.WRONG,
      category: "lynx",
    });
    expect(judgementOf(predictions, NO_CATEGORY)).toEqual(none);
    expect(judgementOf([], NO_CATEGORY)).toEqual(none);
  });

  it("remembers the category that was chosen last, first", () => {
    expect(recentWith(["fox", "lynx"], "lynx")).toEqual(["lynx", "fox"]);
    expect(recentWith(["fox"], NO_CATEGORY)).toEqual(["fox"]);
  });
});

describe("the selection", () => {
  const ids = ["a", "b", "c", "d", "e"];

  it("is the image with the cursor if none is chosen", () => {
    expect(targetsOf(ids, NOTHING_CHOSEN)).toEqual(["a"]);
    expect(targetsOf(ids, moveTo(ids, NOTHING_CHOSEN, 2, false))).toEqual(["c"]);
    expect(targetsOf([], NOTHING_CHOSEN)).toEqual([]);
  });

  it("grows by a range, forwards and backwards from the anchor", () => {
    const from = toggle(ids, NOTHING_CHOSEN, 2);
    expect(targetsOf(ids, moveTo(ids, from, 4, true))).toEqual(["c", "d", "e"]);
    expect(targetsOf(ids, moveTo(ids, from, 1, true))).toEqual(["b", "c"]);
  });

  it("chooses an image, and no longer", () => {
    const twice = toggle(ids, toggle(ids, toggle(ids, NOTHING_CHOSEN, 1), 3), 1);
    expect(targetsOf(ids, twice)).toEqual(["d"]);
  });

  it("keeps the place of the cursor when its image leaves the list", () => {
    const selection = moveTo(ids, NOTHING_CHOSEN, 4, false);
    expect(cursorOf(ids, selection)).toBe(4);
    expect(cursorOf(["a", "b", "c", "d"], selection)).toBe(3);
    const middle = moveTo(ids, NOTHING_CHOSEN, 1, false);
    expect(targetsOf(["a", "c", "d", "e"], middle)).toEqual(["c"]);
  });

  it("stays within the list", () => {
    expect(cursorOf(ids, moveTo(ids, NOTHING_CHOSEN, 99, false))).toBe(4);
    expect(cursorOf(ids, moveTo(ids, NOTHING_CHOSEN, -1, false))).toBe(0);
    expect(moveTo([], NOTHING_CHOSEN, 0, false)).toBe(NOTHING_CHOSEN);
  });
});

describe("the strength of an agreement", () => {
  it("follows Landis and Koch", () => {
    expect([-0.1, 0.2, 0.21, 0.6, 0.61, 0.81, 1].map(strengthOf)).toEqual([
      "poor",
      "slight",
      "fair",
      "moderate",
      "substantial",
      "perfect",
      "perfect",
    ]);
    expect(strengthOf(undefined)).toBe("none");
  });
});
