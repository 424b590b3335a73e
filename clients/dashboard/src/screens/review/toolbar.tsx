import {
  Button,
  Group,
  Kbd,
  Popover,
  SegmentedControl,
  Stack,
  Switch,
  Table,
  Text,
} from "@mantine/core";
import { IconArrowBackUp, IconKeyboard } from "@tabler/icons-react";
import { CategorySelect } from "../../components/category_select";
import { texts } from "../../texts/en";
import { reviewRoute } from "./route";

/** What is listed and how, what was said last, and which keys there are. */
export function Toolbar({
  last,
  isUndoing,
  onUndo,
  withLookAlikes,
  onLookAlikes,
}: {
  last: { category: string; said: unknown[]; alike: unknown[] } | undefined;
  isUndoing: boolean;
  onUndo: () => void;
  withLookAlikes: boolean;
  onLookAlikes: (isOn: boolean) => void;
}) {
  return (
    <Stack gap="sm">
      <Group gap="sm">
        <Filters />
      </Group>
      <Group gap="md" mih={36}>
        <Switch
          label={texts.review.lookAlikes}
          checked={withLookAlikes}
          onChange={(event) => onLookAlikes(event.currentTarget.checked)}
        />
        <Keys />
        <Button
          variant="default"
          size="xs"
          disabled={!last}
          loading={isUndoing}
          leftSection={<IconArrowBackUp size={16} aria-hidden />}
          onClick={onUndo}
        >
          {texts.review.undo}
        </Button>
        {last && (
          <Text size="sm" c="dimmed">
            {texts.review.said(last.category, last.said.length)}
            {last.alike.length > 0 && texts.review.alsoAlike(last.alike.length)}
          </Text>
        )}
      </Group>
    </Stack>
  );
}

function Filters() {
  const search = reviewRoute.useSearch();
  const navigate = reviewRoute.useNavigate();
  const set = (change: Partial<Record<keyof typeof search, unknown>>) =>
    navigate({ search: (old) => ({ ...old, ...change }) as typeof search, replace: true });
  return (
    <>
      <SegmentedControl
        aria-label={texts.review.view}
        value={search.view ?? "grid"}
        onChange={(view) => set({ view: view === "focus" ? view : undefined })}
        data={[
          { value: "grid", label: texts.review.grid },
          { value: "focus", label: texts.review.focus },
        ]}
      />
      <SegmentedControl
        aria-label={texts.review.order}
        value={search.order ?? "uncertainty"}
        onChange={(order) => set({ order: order === "disagreement" ? order : undefined })}
        data={[
          { value: "uncertainty", label: texts.review.byUncertainty },
          { value: "disagreement", label: texts.review.byDisagreement },
        ]}
      />
      <CategorySelect
        label={texts.review.answeredWith}
        value={search.category ?? null}
        onChange={(category) => set({ category: category ?? undefined })}
      />
      <Switch
        label={texts.review.aside}
        checked={search.aside === true}
        onChange={(event) => set({ aside: event.currentTarget.checked || undefined })}
      />
    </>
  );
}

function Keys() {
  return (
    <Popover position="bottom-start" withArrow shadow="md">
      <Popover.Target>
        <Button
          variant="default"
          size="xs"
          leftSection={<IconKeyboard size={16} aria-hidden />}
          visibleFrom="sm"
        >
          {texts.review.keys}
        </Button>
      </Popover.Target>
      <Popover.Dropdown>
        <Table withRowBorders={false} aria-label={texts.review.keys}>
          <Table.Tbody>
            {texts.review.keyList.map(([key, meaning]) => (
              <Table.Tr key={key}>
                <Table.Td>
                  <Kbd>{key}</Kbd>
                </Table.Td>
                <Table.Td>{meaning}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Popover.Dropdown>
    </Popover>
  );
}
