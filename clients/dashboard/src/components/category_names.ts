import type { Category } from "../gen/image_categorizer/v1/metadata_pb";

/** Returns the names of categories and of all broader ones, each once, in the order of the alphabet after `first`. */
export function namesOf(categories: readonly Category[], first: readonly string[]): string[] {
  const names = new Set(categories.flatMap(({ category, ancestors }) => [category, ...ancestors]));
  for (const name of first) names.delete(name);
  return [...new Set(first), ...[...names].sort((a, b) => a.localeCompare(b, "en"))];
}
