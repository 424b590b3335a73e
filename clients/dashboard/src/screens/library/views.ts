import { useSyncExternalStore } from "react";
import { type View, viewOf, withoutImage } from "./search";

const STORED = "image-categorizer.views";
const MAX_KEPT = 50;

export type SavedView = { name: string; view: View };
type Store = Pick<Storage, "getItem" | "setItem">;

const listeners = new Set<() => void>();
let known: { text: string | null; views: SavedView[] } = { text: null, views: [] };

/** Returns the views that were saved in this browser. */
export function readViews(store: Store): SavedView[] {
  const text = store.getItem(STORED);
  if (text !== known.text) known = { text, views: parsed(text) };
  return known.views;
}

function parsed(text: string | null): SavedView[] {
  try {
    const stored = JSON.parse(text ?? "[]") as { name: string; view: Record<string, unknown> }[];
    return stored.map(({ name, view }) => ({ name: String(name), view: viewOf(view) }));
  } catch {
    return [];
  }
}

/** Saves a view; one of the same name is replaced. */
export function saveView(store: Store, name: string, view: View): void {
  const others = readViews(store).filter((saved) => saved.name !== name);
  write(store, [...others, { name, view: withoutImage(view) }].slice(-MAX_KEPT));
}

export function removeView(store: Store, name: string): void {
  write(
    store,
    readViews(store).filter((saved) => saved.name !== name),
  );
}

function write(store: Store, views: SavedView[]): void {
  store.setItem(STORED, JSON.stringify(views));
  for (const listener of listeners) listener();
}

export function useViews(): SavedView[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => readViews(localStorage),
  );
}
