import { useElementSize } from "@mantine/hooks";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useState } from "react";
import { useBlobUrl } from "../../components/picture";
import { texts } from "../../texts/en";
import type { Row } from "./filter";
import styles from "./grid.module.css";

const MIN_CELL_PX = 150;
const GAP_PX = 8;
const TEXT_PX = 64;
const PICTURE_PX = 96;
/** Browsers decode whole photographs for their small pictures: more would stall the page. */
const MAX_PICTURES = 5000;

/** The items of a batch, of which only those in the window are in the page. */
export function ResultGrid({
  items,
  rows,
  files,
  onOpen,
}: {
  items: readonly number[];
  rows: readonly (Row | undefined)[];
  files: ReadonlyMap<string, File> | undefined;
  onOpen: (item: number) => void;
}) {
  "use no memo";
  const { ref, width } = useElementSize<HTMLUListElement>();
  const [top, setTop] = useState(0);
  const [list, setList] = useState<HTMLUListElement | null>(null);
  useEffect(() => {
    if (list && width > 0) setTop(list.getBoundingClientRect().top + window.scrollY);
  }, [list, width]);
  const columns = Math.max(2, Math.floor((width + GAP_PX) / (MIN_CELL_PX + GAP_PX)));
  const shown = files && files.size <= MAX_PICTURES ? files : undefined;
  const height = TEXT_PX + (shown ? PICTURE_PX : 0);
  const cellWidth = (width - (columns - 1) * GAP_PX) / columns;
  const virtual = useWindowVirtualizer({
    count: Math.ceil(items.length / columns),
    estimateSize: () => height + GAP_PX,
    overscan: 4,
    scrollMargin: top,
    enabled: width > 0,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: another height of rows is another layout
  useEffect(() => virtual.measure(), [height, columns]);
  return (
    <ul
      ref={(element) => {
        setList(element);
        return ref(element);
      }}
      className={styles.grid}
      style={{ height: virtual.getTotalSize() }}
      aria-label={texts.batches.batch.grid}
    >
      {virtual.getVirtualItems().flatMap((row) =>
        items.slice(row.index * columns, (row.index + 1) * columns).map((item, column) => (
          <li
            key={item}
            className={styles.place}
            style={{
              width: cellWidth,
              height,
              transform: `translate(${column * (cellWidth + GAP_PX)}px, ${row.start - top}px)`,
            }}
          >
            <Cell item={item} row={rows[item]} files={shown} onOpen={onOpen} />
          </li>
        )),
      )}
    </ul>
  );
}

function Cell({
  item,
  row,
  files,
  onOpen,
}: {
  item: number;
  row: Row | undefined;
  files: ReadonlyMap<string, File> | undefined;
  onOpen: (item: number) => void;
}) {
  const words = texts.batches.batch;
  if (!row) {
    return (
      <div className={styles.cell} data-outcome="pending">
        <div className={styles.words}>
          <div className={styles.name}>{words.item(item)}</div>
          <div className={styles.line}>{words.pending}</div>
        </div>
      </div>
    );
  }
  const best = row.predictions[0];
  const outcome = row.reason || best?.category || words.noCategory;
  return (
    <button
      type="button"
      className={styles.cell}
      data-outcome={row.reason ? "failed" : "classified"}
      onClick={() => onOpen(item)}
      aria-label={words.cell(row.filename, outcome)}
    >
      {files && <SentPicture file={files.get(row.filename)} />}
      <span className={styles.words} style={{ display: "block" }}>
        <span className={row.reason ? styles.failed : styles.line} style={{ display: "block" }}>
          {outcome}
        </span>
        <span className={styles.name} style={{ display: "block" }}>
          {best && !row.reason && `${texts.common.percent(best.confidence)} · `}
          {row.filename}
        </span>
      </span>
      {best && !row.reason && (
        <span className={styles.bar} style={{ width: `${100 * best.confidence}%` }} />
      )}
    </button>
  );
}

/** The picture of a file that this tab has sent. */
export function SentPicture({
  file,
  height = PICTURE_PX,
}: {
  file: File | undefined;
  height?: number;
}) {
  const url = useBlobUrl(file);
  if (!url) return <span className={styles.picture} style={{ height }} />;
  return <img className={styles.picture} src={url} alt="" decoding="async" style={{ height }} />;
}
