export const REVIEW_STATES = [
  "UNREVIEWED",
  "RIGHT",
  "CORRECTED",
  "NOT_IN_LIST",
  "REVIEWED",
] as const;

/** What the library shows. It is the search part of the address: a link to it is a saved view. */
export type View = {
  filename?: string;
  category?: string;
  /** Words, separated by commas. */
  tags?: string;
  subject?: string;
  /** Of the best prediction, in percent. */
  min?: number;
  max?: number;
  review?: (typeof REVIEW_STATES)[number];
  /** Images most similar to this stored one, instead of the filters. */
  similar?: string;
  show?: "duplicates";
  /** The image in the side panel. */
  image?: string;
};

const WORDS = ["filename", "category", "tags", "subject", "similar", "image"] as const;

/** Returns the view that an address states; what makes no sense is left out. */
export function viewOf(search: Record<string, unknown>): View {
  const view: View = {};
  for (const name of WORDS) {
    const value = search[name];
    if (typeof value === "number") view[name] = String(value);
    if (typeof value === "string" && value !== "") view[name] = value;
  }
  for (const name of ["min", "max"] as const) {
    const value = search[name];
    if (typeof value === "number" && value >= 0 && value <= 100) view[name] = value;
  }
  const review = REVIEW_STATES.find((state) => state === search.review);
  if (review) view.review = review;
  if (search.show === "duplicates") view.show = "duplicates";
  return view;
}

/** Returns a view without the opened image. */
export function withoutImage({ image: _, ...view }: View): View {
  return view;
}

/** Returns the tags that people wrote, without empty ones. */
export function tagsOf(text: string | undefined): string[] {
  return (text ?? "")
    .split(",")
    .map((tag) => tag.trim())
    .filter((tag) => tag !== "");
}
