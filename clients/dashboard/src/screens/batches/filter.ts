/** One item of a batch, as the grid shows it. */
export type Row = {
  item: number;
  filename: string;
  /** The first predictions, most confident first; none if the item failed or nothing reached the threshold. */
  predictions: { category: string; confidence: number }[];
  /** The name of an `ErrorReason`; empty if the item was classified. */
  reason: string;
  /** What the server says of the failure. */
  message: string;
};

export const OUTCOMES = ["classified", "failed", "pending"] as const;

/** Which items people see. It is the search part of the address. */
export type Filter = {
  outcome?: (typeof OUTCOMES)[number];
  category?: string;
  /** The name of an `ErrorReason`. */
  reason?: string;
  /** In percent, of the best prediction. */
  min?: number;
  max?: number;
  /** The item that is shown large. */
  item?: number;
};

/** Returns the filter that an address states; what makes no sense is left out. */
export function filterOf(search: Record<string, unknown>): Filter {
  const outcome = OUTCOMES.find((name) => name === search.outcome);
  const min = wholeNumber(search.min, 100);
  const max = wholeNumber(search.max, 100);
  const item = wholeNumber(search.item, Number.MAX_SAFE_INTEGER);
  return {
    ...(outcome && { outcome }),
    ...(typeof search.category === "string" && { category: search.category }),
    ...(typeof search.reason === "string" && { reason: search.reason }),
    ...(min !== undefined && { min }),
    ...(max !== undefined && { max }),
    ...(item !== undefined && { item }),
  };
}

function wholeNumber(value: unknown, most: number): number | undefined {
  const number = typeof value === "number" ? value : Number.NaN;
  return Number.isInteger(number) && number >= 0 && number <= most ? number : undefined;
}

export function isFiltering({ item: _, ...filter }: Filter): boolean {
  return Object.keys(filter).length > 0;
}

/** Returns the numbers of the items that pass the filter, in their order. `rows` has holes where items have no outcome yet. */
export function matching(
  rows: readonly (Row | undefined)[],
  itemCount: number,
  filter: Filter,
): number[] {
  const found: number[] = [];
  const isFree = !isFiltering(filter);
  for (let item = 0; item < itemCount; item++) {
    if (isFree || passes(rows[item], filter)) found.push(item);
  }
  return found;
}

function passes(row: Row | undefined, filter: Filter): boolean {
  if (!row) return filter.outcome === "pending" && !needsResult(filter);
  const isFailed = row.reason !== "";
  if (filter.outcome === "pending") return false;
  if (filter.outcome === "failed" && !isFailed) return false;
  if (filter.outcome === "classified" && isFailed) return false;
  if (filter.reason !== undefined && row.reason !== filter.reason) return false;
  const best = row.predictions[0];
  if (filter.category !== undefined && best?.category !== filter.category) return false;
  if (filter.min === undefined && filter.max === undefined) return true;
  if (!best) return false;
  const percent = 100 * best.confidence;
  return percent >= (filter.min ?? 0) && percent <= (filter.max ?? 100);
}

function needsResult({ category, reason, min, max }: Filter): boolean {
  return [category, reason, min, max].some((value) => value !== undefined);
}

/** How often each value occurs, the most frequent first. */
export type Counted = { name: string; count: number }[];

/** Returns the best categories and the reasons of failures of the items so far. */
export function facetsOf(rows: readonly (Row | undefined)[]): {
  categories: Counted;
  reasons: Counted;
} {
  const categories = new Map<string, number>();
  const reasons = new Map<string, number>();
  for (const row of rows) {
    if (!row) continue;
    const best = row.predictions[0];
    if (row.reason) add(reasons, row.reason);
    else if (best) add(categories, best.category);
  }
  return { categories: counted(categories), reasons: counted(reasons) };
}

function add(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

function counted(counts: Map<string, number>): Counted {
  return [...counts]
    .map(([name, count]) => ({ name, count }))
    .sort((a, b) => b.count - a.count || a.name.localeCompare(b.name));
}
