import { ActionIcon, Text } from "@mantine/core";
import { IconChevronDown, IconChevronRight } from "@tabler/icons-react";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useEffect, useRef } from "react";
import { texts } from "../../texts/en";
import classes from "./categories.module.css";
import type { Row } from "./tree";

const ROW_PX = 32;
const INDENT_PX = 20;

/** The lines of a tree, of which only those in sight are drawn. Arrow keys move, open and close. */
export function TreeView({
  rows,
  chosen,
  onChoose,
  onToggle,
}: {
  rows: Row[];
  chosen: string;
  onChoose: (name: string) => void;
  onToggle: (name: string) => void;
}) {
  "use no memo";
  const scrolled = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scrolled.current,
    estimateSize: () => ROW_PX,
    overscan: 12,
  });
  const index = rows.findIndex(({ node }) => node.name === chosen);
  useEffect(() => {
    if (index >= 0) virtual.scrollToIndex(index);
  }, [index, virtual]);
  const onKeyDown = (event: KeyboardEvent) => {
    const row = rows[index];
    const goTo = (to: number) => {
      const next = rows[Math.max(0, Math.min(to, rows.length - 1))];
      if (!next) return;
      onChoose(next.node.name);
    };
    const canToggle = row && row.node.children.length > 0;
    if (event.key === "ArrowDown") goTo(index + 1);
    else if (event.key === "ArrowUp") goTo(index - 1);
    else if (event.key === "Home") goTo(0);
    else if (event.key === "End") goTo(rows.length - 1);
    else if (event.key === "ArrowRight" && canToggle && !row.isOpen) onToggle(row.node.name);
    else if (event.key === "ArrowLeft" && canToggle && row.isOpen) onToggle(row.node.name);
    else if (event.key === "ArrowLeft" && row?.node.parent) onChoose(row.node.parent);
    else return;
    event.preventDefault();
  };
  return (
    <div
      ref={scrolled}
      role="tree"
      aria-label={texts.categories.tree}
      aria-activedescendant={index >= 0 ? idOf(index) : undefined}
      tabIndex={0}
      className={classes.tree}
      onKeyDown={onKeyDown}
    >
      <div role="presentation" style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map((item) => {
          const row = rows[item.index];
          return (
            row && (
              <Line
                key={row.node.name}
                row={row}
                index={item.index}
                top={item.start}
                isChosen={item.index === index}
                onChoose={() => onChoose(row.node.name)}
                onToggle={() => onToggle(row.node.name)}
              />
            )
          );
        })}
      </div>
    </div>
  );
}

function Line({
  row: { node, depth, isOpen },
  index,
  top,
  isChosen,
  onChoose,
  onToggle,
}: {
  row: Row;
  index: number;
  top: number;
  isChosen: boolean;
  onChoose: () => void;
  onToggle: () => void;
}) {
  const hasChildren = node.children.length > 0;
  const Chevron = isOpen ? IconChevronDown : IconChevronRight;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents lint/a11y/useFocusableInteractive: the tree has the focus and the keys
    <div
      id={idOf(index)}
      role="treeitem"
      aria-level={depth + 1}
      aria-selected={isChosen}
      aria-expanded={hasChildren ? isOpen : undefined}
      className={classes.line}
      style={{ height: ROW_PX, top, paddingInlineStart: depth * INDENT_PX + 4 }}
      onClick={onChoose}
    >
      {hasChildren ? (
        <ActionIcon
          component="span"
          role="presentation"
          variant="subtle"
          color="gray"
          size="sm"
          onClick={(event) => {
            event.stopPropagation();
            onToggle();
          }}
        >
          <Chevron size={16} aria-hidden />
        </ActionIcon>
      ) : (
        <span className={classes.gap} />
      )}
      <Text size="sm" truncate fw={node.isLeaf ? 400 : 600}>
        {node.name}
      </Text>
    </div>
  );
}

function idOf(index: number): string {
  return `category-${index}`;
}
