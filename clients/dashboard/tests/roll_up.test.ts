import { describe, expect, it } from "vitest";
import { levelsOf, rolledUp } from "../src/screens/classify/roll_up";

const CATS = [
  { category: "tiger cat", confidence: 0.4, ancestors: ["cat", "mammal", "animal"] },
  { category: "tabby", confidence: 0.3, ancestors: ["cat", "mammal", "animal"] },
  { category: "beagle", confidence: 0.2, ancestors: ["dog", "mammal", "animal"] },
  { category: "canary", confidence: 0.06, ancestors: ["bird", "animal"] },
  { category: "laptop", confidence: 0.04, ancestors: [] },
];

describe("rolling up", () => {
  it.each([
    [0.35, "tiger cat", 0.4, []],
    [0.6, "cat", 0.7, ["tiger cat", "tabby"]],
    [0.8, "mammal", 0.9, ["tiger cat", "tabby", "beagle"]],
    [0.95, "animal", 0.96, ["tiger cat", "tabby", "beagle", "canary"]],
  ])("at %s answers %s", (threshold, category, confidence, below) => {
    const rolled = rolledUp(CATS, threshold, true);
    expect(rolled?.level.category).toBe(category);
    expect(rolled?.level.confidence).toBeCloseTo(confidence);
    expect(rolled?.below.map((prediction) => prediction.category)).toEqual(below);
  });

  it("answers nothing if no level is certain enough", () => {
    expect(rolledUp(CATS, 0.97, true)).toBeNull();
  });

  it("takes the largest where confidences are independent", () => {
    const levels = new Map(levelsOf(CATS, false).map((l) => [l.category, l.confidence]));
    expect([levels.get("cat"), levels.get("animal")]).toEqual([0.4, 0.4]);
    expect(rolledUp(CATS, 0.4, false)?.level.category).toBe("tiger cat");
  });

  it("knows a category that is also above others", () => {
    const birds = [
      { category: "bird", confidence: 0.5, ancestors: ["animal"] },
      { category: "jay", confidence: 0.4, ancestors: ["bird", "animal"] },
    ];
    expect(rolledUp(birds, 0.8, true)?.level).toEqual({
      category: "bird",
      confidence: 0.9,
      ancestors: ["animal"],
    });
    expect(rolledUp(birds, 0.3, true)?.level.category).toBe("jay");
  });

  it("takes the most certain of several that are not above one another", () => {
    expect(rolledUp(CATS, 0.2, true)?.level.category).toBe("tiger cat");
  });
});
