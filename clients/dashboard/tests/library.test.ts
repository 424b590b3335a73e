import { describe, expect, it } from "vitest";
import { justify } from "../src/screens/library/justify";
import { tagsOf, viewOf } from "../src/screens/library/search";
import { readViews, removeView, saveView } from "../src/screens/library/views";

const WIDTH_PX = 1000;
const GAP_PX = 8;

class Store {
  text: string | null = null;
  getItem = () => this.text;
  setItem = (_: string, text: string) => {
    this.text = text;
  };
}

describe("rows of pictures", () => {
  const ratios = [1.5, 0.7, 1, 12, 1.3, 1.8, 0.05, 1, 1.5, 0.7, Number.NaN, 1];
  const rows = justify(ratios, WIDTH_PX, 180, GAP_PX);

  it("have all pictures once, in their order", () => {
    const order = rows.flatMap((row) => row.pictures.map(({ index }) => index));
    expect(order).toEqual(ratios.map((_, index) => index));
  });

  it("are as wide as the page, but the last", () => {
    expect(rows.length).toBeGreaterThan(2);
    for (const row of rows.slice(0, -1)) {
      const last = row.pictures.at(-1);
      expect((last?.left_px ?? 0) + (last?.width_px ?? 0)).toBeCloseTo(WIDTH_PX, 6);
    }
    expect(rows.at(-1)?.height_px).toBe(180);
  });

  it("lie below one another without overlap", () => {
    for (const [at, row] of rows.slice(1).entries()) {
      const above = rows[at];
      expect(row.top_px).toBeCloseTo((above?.top_px ?? 0) + (above?.height_px ?? 0) + GAP_PX, 6);
    }
  });
});

describe("a view", () => {
  it("is read from the address, without what makes no sense", () => {
    const view = viewOf({ filename: 2024, category: "", min: 140, max: 50, review: "x", evil: 1 });
    expect(view).toEqual({ filename: "2024", max: 50 });
    expect(viewOf({ show: "duplicates", review: "CORRECTED" })).toEqual({
      show: "duplicates",
      review: "CORRECTED",
    });
    expect(tagsOf(" sea, ,beach,")).toEqual(["sea", "beach"]);
  });

  it("is saved under its name, without the opened image", () => {
    const store = new Store();
    saveView(store, "doubtful", { max: 50, image: "i-1" });
    saveView(store, "doubtful", { max: 40, image: "i-1" });
    expect(readViews(store)).toEqual([{ name: "doubtful", view: { max: 40 } }]);
    removeView(store, "doubtful");
    expect(readViews(store)).toEqual([]);
  });

  it("that others have damaged is none", () => {
    const store = new Store();
    store.text = "[oops";
    expect(readViews(store)).toEqual([]);
  });
});
