import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { namesOf } from "../src/components/category_names";
import { CategorySchema } from "../src/gen/image_categorizer/v1/metadata_pb";
import { pathOf, rowsOf, treeOf } from "../src/screens/categories/tree";

function category(name: string, ...ancestors: string[]) {
  return create(CategorySchema, { category: name, categoryId: `id of ${name}`, ancestors });
}

const animals = [
  category("tabby", "cat", "pet", "animal"),
  category("lynx", "cat", "animal"),
  category("beagle", "dog", "pet", "animal"),
  category("chair"),
];
const tree = treeOf(animals);
const shown = (opened: string[], words = "") =>
  rowsOf(tree, new Set(opened), words).map(({ node, depth }) => `${depth} ${node.name}`);

describe("the tree of categories", () => {
  it("has broader categories as parents, in the order of the alphabet", () => {
    expect(shown([])).toEqual(["0 animal", "0 chair"]);
    expect(shown(["animal", "cat"])).toEqual([
      "0 animal",
      "1 cat",
      "2 lynx",
      "2 tabby",
      "1 pet",
      "0 chair",
    ]);
    expect(pathOf(tree, "beagle")).toEqual(["dog", "pet", "animal"]);
  });

  it("puts a category under what is above it in all its paths", () => {
    expect(tree.nodes.get("cat")?.parent).toBe("animal");
  });

  it("shows what a search finds with all above it", () => {
    expect(shown([], "LYN")).toEqual(["0 animal", "1 cat", "2 lynx"]);
    expect(shown([], "zebra")).toEqual([]);
  });

  it("is flat without a taxonomy, and knows identifiers", () => {
    const flat = treeOf([category("b"), category("a")]);
    expect(flat.roots).toEqual(["a", "b"]);
    expect(flat.nodes.get("a")).toMatchObject({ id: "id of a", isLeaf: true, parent: "" });
    expect(tree.nodes.get("cat")).toMatchObject({ id: "", isLeaf: false });
  });

  it("ends with a cycle", () => {
    const cyclic = treeOf([category("a", "b"), category("b", "a")]);
    expect(pathOf(cyclic, "a").length).toBeLessThan(3);
  });
});

describe("the names to search", () => {
  it("are categories and broader ones, each once, after one's own", () => {
    expect(namesOf(animals, ["my cat", "lynx"])).toEqual([
      "my cat",
      "lynx",
      "animal",
      "beagle",
      "cat",
      "chair",
      "dog",
      "pet",
      "tabby",
    ]);
  });
});
