import type { Category } from "../../gen/image_categorizer/v1/metadata_pb";

/** A category of a tree: one of the model's, or a broader one. */
export type Node = {
  name: string;
  id: string;
  parent: string;
  children: string[];
  isLeaf: boolean;
};

/** One line of what is shown of a tree. */
export type Row = { node: Node; depth: number; isOpen: boolean };

export type Tree = { nodes: Map<string, Node>; roots: string[] };

/** Returns the tree of a model's categories. Without a taxonomy, all categories are roots. */
export function treeOf(categories: readonly Category[]): Tree {
  const above = broaderOf(categories);
  const nodes = new Map<string, Node>();
  const add = (name: string, id: string, isLeaf: boolean) => {
    const known = nodes.get(name);
    const parent = above.get(name)?.[0] ?? "";
    nodes.set(name, known ?? { name, id, parent, children: [], isLeaf });
  };
  for (const { category, categoryId } of categories) add(category, categoryId, true);
  for (const name of above.keys()) add(name, "", false);
  const roots: string[] = [];
  for (const { name, parent } of nodes.values()) {
    const children = nodes.get(parent)?.children ?? roots;
    children.push(name);
  }
  const byName = (a: string, b: string) => a.localeCompare(b, "en");
  roots.sort(byName);
  for (const { children } of nodes.values()) children.sort(byName);
  return { nodes, roots };
}

/** Returns the broader categories of all, nearest first. What stands behind another in every list is above it. */
function broaderOf(categories: readonly Category[]): Map<string, string[]> {
  const above = new Map<string, string[]>();
  for (const { category, ancestors } of categories) {
    const path = [category, ...ancestors];
    path.forEach((name, index) => {
      const behind = path.slice(index + 1);
      const known = above.get(name);
      above.set(name, known ? known.filter((other) => behind.includes(other)) : behind);
    });
  }
  return above;
}

/** Returns the lines to show: the opened parts, or with words to search what they find and all above it. */
export function rowsOf(tree: Tree, opened: ReadonlySet<string>, words: string): Row[] {
  const found = words ? foundBy(tree, words) : null;
  const rows: Row[] = [];
  const visit = (name: string, depth: number) => {
    const node = tree.nodes.get(name);
    if (!node || (found && !found.has(name))) return;
    const isOpen = node.children.length > 0 && (found !== null || opened.has(name));
    rows.push({ node, depth, isOpen });
    if (isOpen) for (const child of node.children) visit(child, depth + 1);
  };
  for (const root of tree.roots) visit(root, 0);
  return rows;
}

function foundBy(tree: Tree, words: string): Set<string> {
  const wanted = words.toLowerCase();
  const found = new Set<string>();
  for (const { name } of tree.nodes.values()) {
    if (!name.toLowerCase().includes(wanted)) continue;
    for (const above of [name, ...pathOf(tree, name)]) found.add(above);
  }
  return found;
}

/** Returns the broader categories of one, nearest first. */
export function pathOf(tree: Tree, name: string): string[] {
  const path: string[] = [];
  let parent = tree.nodes.get(name)?.parent;
  while (parent && !path.includes(parent)) {
    path.push(parent);
    parent = tree.nodes.get(parent)?.parent;
  }
  return path;
}
