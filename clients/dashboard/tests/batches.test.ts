import { describe, expect, it } from "vitest";
import { bytes, duration } from "../src/components/format";
import { choose, fingerprint, nameOf } from "../src/screens/batches/choose";
import { facetsOf, filterOf, matching, type Row } from "../src/screens/batches/filter";
import { queryOf } from "../src/screens/batches/send";
import { forgetRequestId, requestIdOf } from "../src/screens/batches/unfinished";

function file(path: string, type = "", size_bytes = 3): File {
  const made = new File(["x".repeat(size_bytes)], path.split("/").at(-1) ?? "", {
    type,
    lastModified: 7,
  });
  return Object.assign(made, { path });
}

function row(item: number, category: string, confidence: number, reason = ""): Row {
  const predictions = reason ? [] : [{ category, confidence }];
  return { item, filename: `${item}.jpg`, predictions, reason, message: "" };
}

class Store {
  text: string | null = null;
  getItem = () => this.text;
  setItem = (_: string, text: string) => {
    this.text = text;
  };
}

describe("files that were dropped", () => {
  it("keep their path in the folder as their name", () => {
    expect(nameOf(file("./holiday/a.jpg"))).toBe("holiday/a.jpg");
    expect(nameOf(file("/holiday/a.jpg"))).toBe("holiday/a.jpg");
  });

  it("become items if they are images or zip files", () => {
    const choice = choose([
      file("f/a.JPG"),
      file("f/notes.txt"),
      file("f/odd", "image/png"),
      file("f/b.zip"),
      file("f/.DS_Store"),
      file("f/__MACOSX/._a.jpg"),
    ]);
    expect(choice.files.map((chosen) => chosen.name)).toEqual(["a.JPG", "odd", "b.zip"]);
    expect(choice).toMatchObject({ leftOutCount: 1, size_bytes: 9 });
  });

  it("are told from others by name, size, time and options, in any order", () => {
    const [a, b] = [file("a.jpg"), file("b.jpg")];
    const mark = fingerprint([a, b], "{}");
    expect(fingerprint([b, a], "{}")).toBe(mark);
    expect(fingerprint([a, file("b.jpg", "", 4)], "{}")).not.toBe(mark);
    expect(fingerprint([a, b], '{"store":true}')).not.toBe(mark);
  });
});

describe("an upload that did not end", () => {
  it("has the same request ID again, for a day, until it ends", () => {
    const store = new Store();
    const first = requestIdOf(store, "mark", 0);
    expect(first).toMatch(/^ui-[0-9a-f]{32}$/);
    expect(requestIdOf(store, "mark", 1000)).toBe(first);
    expect(requestIdOf(store, "other", 1000)).not.toBe(first);
    forgetRequestId(store, "mark", 2000);
    expect(requestIdOf(store, "mark", 3000)).not.toBe(first);
  });

  it("is forgotten before the server forgets it", () => {
    const store = new Store();
    const first = requestIdOf(store, "mark", 0);
    expect(requestIdOf(store, "mark", 24 * 3_600_000)).not.toBe(first);
  });

  it("survives what others have stored there", () => {
    const store = new Store();
    store.text = "{nonsense";
    expect(requestIdOf(store, "mark", 0)).toMatch(/^ui-/);
  });

  it("names a subject only for images that are kept", () => {
    const options = { store: false, subjectId: "anna", confidencePercent: 25 };
    expect(queryOf(options, "r")).toBe("request_id=r&confidence_threshold=0.25");
    expect(queryOf({ ...options, store: true }, "r")).toContain("store=true&subject_id=anna");
  });
});

describe("the filter of results", () => {
  const rows = [
    row(0, "cat", 0.9),
    undefined,
    row(2, "dog", 0.4),
    row(3, "", 0, "IMAGE_TOO_LARGE"),
  ];

  it("is read from the address, without what makes no sense", () => {
    const filter = filterOf({ outcome: "failed", min: 20, max: 400, category: 3, item: 5 });
    expect(filter).toEqual({ outcome: "failed", min: 20, item: 5 });
  });

  it("shows all items, those without an outcome too, unless something is chosen", () => {
    expect(matching(rows, 5, { item: 2 })).toEqual([0, 1, 2, 3, 4]);
    expect(matching(rows, 5, { outcome: "pending" })).toEqual([1, 4]);
    expect(matching(rows, 5, { outcome: "classified" })).toEqual([0, 2]);
    expect(matching(rows, 5, { outcome: "failed" })).toEqual([3]);
    expect(matching(rows, 5, { category: "dog" })).toEqual([2]);
    expect(matching(rows, 5, { reason: "IMAGE_TOO_LARGE" })).toEqual([3]);
    expect(matching(rows, 5, { min: 50 })).toEqual([0]);
    expect(matching(rows, 5, { max: 50 })).toEqual([2]);
    expect(matching(rows, 5, { outcome: "pending", category: "cat" })).toEqual([]);
  });

  it("offers what occurs, the most frequent first", () => {
    const facets = facetsOf([...rows, row(4, "dog", 0.2)]);
    expect(facets.categories).toEqual([
      { name: "dog", count: 2 },
      { name: "cat", count: 1 },
    ]);
    expect(facets.reasons).toEqual([{ name: "IMAGE_TOO_LARGE", count: 1 }]);
  });
});

describe("numbers", () => {
  it("are written as people read them", () => {
    expect([bytes(999), bytes(1400), bytes(2_250_000), bytes(999_999)]).toEqual([
      "999 B",
      "1.4 kB",
      "2.3 MB",
      "1.0 MB",
    ]);
    expect([duration(0.25), duration(42), duration(185), duration(7620)]).toEqual([
      "0.3 s",
      "42 s",
      "3 min 5 s",
      "2 h 7 min",
    ]);
  });
});
