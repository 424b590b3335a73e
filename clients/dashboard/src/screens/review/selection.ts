/**
 * Which images of a list are chosen, and which one has the cursor.
 *
 * The list changes beneath it. If the image with the cursor leaves the list, the one that takes its place has it.
 */
export type Selection = {
  cursorId: string;
  /** Where the cursor was put, from 0. */
  cursorIndex: number;
  /** Where a range begins. */
  anchorId: string;
  chosen: ReadonlySet<string>;
};

export const NOTHING_CHOSEN: Selection = {
  cursorId: "",
  cursorIndex: 0,
  anchorId: "",
  chosen: new Set(),
};

/** Returns where the cursor is, from 0; -1 if the list is empty. */
export function cursorOf(ids: readonly string[], selection: Selection): number {
  const index = ids.indexOf(selection.cursorId);
  return index >= 0 ? index : Math.min(selection.cursorIndex, ids.length - 1);
}

/** Moves the cursor to an index, which is held within the list. With `extend`, all from the anchor on are chosen. */
export function moveTo(
  ids: readonly string[],
  selection: Selection,
  index: number,
  extend: boolean,
): Selection {
  const bounded = Math.max(0, Math.min(index, ids.length - 1));
  const id = ids[bounded];
  if (id === undefined) return selection;
  const moved = { ...selection, cursorId: id, cursorIndex: bounded };
  if (!extend) return { ...moved, anchorId: id };
  const anchor = ids.indexOf(selection.anchorId);
  const from = anchor >= 0 ? anchor : cursorOf(ids, selection);
  const range = ids.slice(Math.min(from, bounded), Math.max(from, bounded) + 1);
  const anchorId = ids[from] ?? id;
  return { ...moved, anchorId, chosen: new Set([...selection.chosen, ...range]) };
}

/** Moves the cursor to an image, and chooses it, or no longer. */
export function toggle(ids: readonly string[], selection: Selection, index: number): Selection {
  const moved = moveTo(ids, selection, index, false);
  const chosen = new Set(selection.chosen);
  if (!chosen.delete(moved.cursorId)) chosen.add(moved.cursorId);
  return { ...moved, chosen };
}

/** Returns the images that an action is for: the chosen ones that are still there, or else the one with the cursor. */
export function targetsOf(ids: readonly string[], selection: Selection): string[] {
  const chosen = ids.filter((id) => selection.chosen.has(id));
  if (chosen.length > 0) return chosen;
  return ids.slice(cursorOf(ids, selection)).slice(0, 1);
}
