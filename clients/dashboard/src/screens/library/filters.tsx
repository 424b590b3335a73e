import { useQuery } from "@connectrpc/connect-query";
import { Autocomplete, Button, Group, NumberInput, Select, TextInput } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { type FormEvent, useState } from "react";
import { MetadataService } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import { libraryRoute } from "./route";
import { REVIEW_STATES, type View, viewOf } from "./search";

const MAX_SUGGESTIONS = 20;
const MAX_CATEGORIES = 1000;
const RARE = ["subject", "tags", "min", "max", "review"] as const;

/** What images must have to be shown. */
export function Filters({ view }: { view: View }) {
  const navigate = libraryRoute.useNavigate();
  const [draft, setDraft] = useState(view);
  const [isLong, setLong] = useState(RARE.some((name) => view[name] !== undefined));
  const categories = useQuery(MetadataService.method.listCategories, { pageSize: MAX_CATEGORIES });
  const words = texts.library.filters;
  const set = (changed: Record<string, unknown>) => setDraft(viewOf({ ...draft, ...changed }));
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void navigate({ search: draft });
  };
  return (
    <form onSubmit={submit} aria-label={words.title}>
      <Group align="flex-end">
        <TextInput
          label={words.filename}
          value={draft.filename ?? ""}
          onChange={(event) => set({ filename: event.currentTarget.value })}
        />
        <Autocomplete
          label={words.category}
          data={[...new Set(categories.data?.categories.map(({ category }) => category) ?? [])]}
          limit={MAX_SUGGESTIONS}
          value={draft.category ?? ""}
          onChange={(category) => set({ category })}
        />
        {isLong && <RareFilters draft={draft} set={set} />}
        <Button type="submit" leftSection={<IconSearch size={18} aria-hidden />}>
          {words.apply}
        </Button>
        <Button variant="subtle" onClick={() => setLong(!isLong)} aria-expanded={isLong}>
          {isLong ? words.fewer : words.more}
        </Button>
        {Object.keys(view).length > 0 && (
          <Button variant="default" onClick={() => navigate({ search: {} })}>
            {words.clear}
          </Button>
        )}
      </Group>
    </form>
  );
}

function RareFilters({
  draft,
  set,
}: {
  draft: View;
  set: (changed: Record<string, unknown>) => void;
}) {
  const words = texts.library.filters;
  return (
    <>
      <TextInput
        label={words.tags}
        value={draft.tags ?? ""}
        onChange={(event) => set({ tags: event.currentTarget.value })}
      />
      <TextInput
        label={words.subject}
        value={draft.subject ?? ""}
        onChange={(event) => set({ subject: event.currentTarget.value })}
      />
      <NumberInput
        label={words.min}
        min={0}
        max={100}
        value={draft.min ?? ""}
        onChange={(min) => set({ min })}
      />
      <NumberInput
        label={words.max}
        min={0}
        max={100}
        value={draft.max ?? ""}
        onChange={(max) => set({ max })}
      />
      <Select
        label={words.review}
        placeholder={words.any}
        data={REVIEW_STATES.map((value) => ({ value, label: texts.library.review[value] }))}
        value={draft.review ?? null}
        onChange={(review) => set({ review })}
        clearable
      />
    </>
  );
}
