import { Button, Group, RangeSlider, Select, Stack, Text } from "@mantine/core";
import { useState } from "react";
import { count } from "../../components/format";
import { texts } from "../../texts/en";
import { type Counted, type Filter, facetsOf, isFiltering, OUTCOMES, type Row } from "./filter";

const MAX_OPTIONS = 100;

/** Chooses which items are shown. */
export function Filters({
  rows,
  filter,
  onChange,
}: {
  rows: readonly (Row | undefined)[];
  filter: Filter;
  onChange: (filter: Filter) => void;
}) {
  const words = texts.batches.batch;
  const { categories, reasons } = facetsOf(rows);
  const set = (name: "category" | "reason" | "outcome", value: string | null) => {
    const { [name]: _, ...rest } = filter;
    onChange(value === null ? rest : { ...rest, [name]: value });
  };
  return (
    <Group align="flex-end" gap="md">
      <Select
        label={words.filters.outcome}
        placeholder={words.filters.any}
        data={OUTCOMES.map((value) => ({ value, label: words.outcomes[value] }))}
        value={filter.outcome ?? null}
        onChange={(value) => set("outcome", value)}
        clearable
        w={150}
      />
      <Select
        label={words.filters.category}
        placeholder={words.filters.any}
        data={optionsOf(categories, filter.category)}
        value={filter.category ?? null}
        onChange={(value) => set("category", value)}
        limit={MAX_OPTIONS}
        searchable
        clearable
        w={220}
      />
      {(reasons.length > 0 || filter.reason) && (
        <Select
          label={words.filters.reason}
          placeholder={words.filters.any}
          data={optionsOf(reasons, filter.reason)}
          value={filter.reason ?? null}
          onChange={(value) => set("reason", value)}
          clearable
          w={250}
        />
      )}
      <Confidence filter={filter} onChange={onChange} />
      {isFiltering(filter) && (
        <Button variant="default" onClick={() => onChange({})}>
          {words.clear}
        </Button>
      )}
    </Group>
  );
}

function optionsOf(found: Counted, chosen: string | undefined) {
  const isMissing = chosen !== undefined && !found.some(({ name }) => name === chosen);
  return [...found, ...(isMissing ? [{ name: chosen, count: 0 }] : [])].map((option) => ({
    value: option.name,
    label: texts.batches.batch.filters.option(option.name, count(option.count)),
  }));
}

function Confidence({ filter, onChange }: { filter: Filter; onChange: (filter: Filter) => void }) {
  const words = texts.batches.batch.filters;
  const [dragged, setDragged] = useState<[number, number] | null>(null);
  const [min, max] = dragged ?? [filter.min ?? 0, filter.max ?? 100];
  return (
    <Stack gap={6} w={220}>
      <Text size="sm" fw={500}>
        {words.range(min, max)}
      </Text>
      <RangeSlider
        value={[min, max]}
        onChange={setDragged}
        onChangeEnd={([from, to]) => {
          const { min: _, max: __, ...rest } = filter;
          onChange({ ...rest, ...(from > 0 && { min: from }), ...(to < 100 && { max: to }) });
          setDragged(null);
        }}
        minRange={0}
        label={null}
        thumbFromLabel={words.least}
        thumbToLabel={words.most}
        mb={12}
      />
    </Stack>
  );
}
