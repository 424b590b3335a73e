import { Select } from "@mantine/core";
import { useCategories } from "../api/categories";
import { namesOf } from "./category_names";

const SHOWN_OPTIONS = 50;

/** Chooses a category, or a broader one, of a model version; of the default model if none is named. */
export function CategorySelect({
  label,
  value,
  onChange,
  others = [],
  model = "",
  version = "",
  isFocused = false,
}: {
  label: string;
  value: string | null;
  onChange: (category: string | null) => void;
  /** More categories, which go first. */
  others?: readonly string[];
  model?: string;
  version?: string;
  isFocused?: boolean;
}) {
  const categories = useCategories(model, version);
  return (
    <Select
      aria-label={label}
      placeholder={label}
      data={namesOf(categories.data ?? [], others)}
      limit={SHOWN_OPTIONS}
      value={value}
      onChange={onChange}
      searchable
      clearable
      selectFirstOptionOnChange
      // The list itself scrolls: readers know a list, and not that an area in it can be scrolled.
      withScrollArea={false}
      styles={{ options: { maxHeight: 240, overflowY: "auto" } }}
      data-autofocus={isFocused || undefined}
    />
  );
}
