import { Box, Group, Stack, Text } from "@mantine/core";
import { IconCheck } from "@tabler/icons-react";
import { type KeyboardEvent, type MouseEvent, type ReactNode, useEffect, useRef } from "react";
import { Picture } from "../../components/picture";
import type { ReviewItem } from "../../gen/image_categorizer/v1/review_pb";
import { texts } from "../../texts/en";
import { idOf } from "./judge";
import classes from "./review.module.css";
import { cursorOf, moveTo, type Selection, toggle } from "./selection";

const TILE_PX = 320;
const PICTURE_HEIGHT = 150;

/** Many images, of which some can be chosen: by a click or Space, a range with the Shift key. */
export function Grid({
  items,
  selection,
  onSelect,
  children,
}: {
  items: ReviewItem[];
  selection: Selection;
  onSelect: (selection: Selection) => void;
  children: ReactNode;
}) {
  const list = useRef<HTMLDivElement>(null);
  const ids = items.map(idOf);
  const cursor = cursorOf(ids, selection);
  const cursorId = ids[cursor];
  // Whoever works by keys keeps the focus when the image that had it leaves the list.
  const hadFocus = useRef(false);
  useEffect(() => {
    const tile = list.current?.querySelector<HTMLElement>(`[data-id="${cursorId}"]`);
    if (hadFocus.current && tile && document.activeElement !== tile) tile.focus();
  }, [cursorId]);

  const onKeyDown = (event: KeyboardEvent) => {
    const to = targetOf(event.key, cursor, columnsOf(list.current), ids.length);
    if (to !== null) onSelect(moveTo(ids, selection, to, event.shiftKey));
    else if (event.key === " ") onSelect(toggle(ids, selection, cursor));
    else if (event.key === "Escape") onSelect({ ...selection, chosen: new Set() });
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      onSelect({ ...selection, chosen: new Set(ids) });
    } else return;
    event.preventDefault();
  };
  const onClick = (event: MouseEvent, index: number) =>
    onSelect(event.shiftKey ? moveTo(ids, selection, index, true) : toggle(ids, selection, index));

  return (
    <Stack gap="md">
      <div
        ref={list}
        role="listbox"
        aria-label={texts.review.images}
        aria-multiselectable
        tabIndex={-1}
        className={classes.grid}
        onKeyDown={onKeyDown}
        onFocus={() => {
          hadFocus.current = true;
        }}
        onBlur={(event) => {
          // Without another element that gets the focus, the image has left the list.
          if (event.relatedTarget) hadFocus.current = false;
        }}
      >
        {items.map((item, index) => (
          <Tile
            key={idOf(item)}
            item={item}
            isChosen={selection.chosen.has(idOf(item))}
            isCursor={index === cursor}
            onClick={(event) => onClick(event, index)}
          />
        ))}
      </div>
      {children}
    </Stack>
  );
}

function Tile({
  item,
  isChosen,
  isCursor,
  onClick,
}: {
  item: ReviewItem;
  isChosen: boolean;
  isCursor: boolean;
  onClick: (event: MouseEvent) => void;
}) {
  const first = item.image?.result?.predictions[0];
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list handles the keys
    <div
      role="option"
      aria-selected={isChosen}
      tabIndex={isCursor ? 0 : -1}
      data-id={idOf(item)}
      data-cursor={isCursor || undefined}
      className={classes.tile}
      onClick={onClick}
    >
      <Picture imageId={idOf(item)} widthPx={TILE_PX} height={PICTURE_HEIGHT} alt="" />
      {isChosen && (
        <span className={classes.mark}>
          <IconCheck size={16} aria-hidden />
        </span>
      )}
      <Box px="xs" py={6}>
        <Text size="sm" fw={600} truncate>
          {first?.category ?? texts.review.noPrediction}
        </Text>
        <Group justify="space-between" gap={4} wrap="nowrap">
          <Text size="xs" c="dimmed">
            {texts.common.percent(first?.confidence ?? 0)}
          </Text>
          <Text size="xs" c="dimmed" truncate>
            {item.disagreement === undefined
              ? texts.review.unsure(item.uncertainty)
              : texts.review.others(item.disagreement)}
          </Text>
        </Group>
      </Box>
    </div>
  );
}

/** Returns where a key moves the cursor; null if it does not. */
function targetOf(key: string, cursor: number, columns: number, count: number): number | null {
  const steps: Record<string, number> = {
    ArrowRight: cursor + 1,
    ArrowLeft: cursor - 1,
    ArrowDown: cursor + columns,
    ArrowUp: cursor - columns,
    Home: 0,
    End: count - 1,
  };
  return steps[key] ?? null;
}

function columnsOf(list: HTMLElement | null): number {
  if (!list) return 1;
  return getComputedStyle(list).gridTemplateColumns.split(" ").length;
}
