import { useElementSize } from "@mantine/hooks";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useState } from "react";
import { Picture } from "../../components/picture";
import type { Image } from "../../gen/image_categorizer/v1/image_pb";
import { texts } from "../../texts/en";
import styles from "./gallery.module.css";
import { justify } from "./justify";

const ROW_PX = 180;
const NARROW_ROW_PX = 120;
const NARROW_PX = 600;
const GAP_PX = 8;
/** Few widths: the server makes and keeps each once. */
const FETCHED_PX = 320;
/** How many rows before the end the next page is asked for. */
const ROWS_AHEAD = 4;

/** Stored images in rows as wide as the page, of which only those in the window are in it. */
export function Gallery({
  images,
  notes,
  onOpen,
  onEnd,
}: {
  images: readonly Image[];
  /** What to say of an image instead of its category, by its id. */
  notes?: ReadonlyMap<string, string>;
  onOpen: (imageId: string) => void;
  /** The end comes near: more may be loaded. */
  onEnd: () => void;
}) {
  "use no memo";
  const { ref, width } = useElementSize<HTMLUListElement>();
  const [list, setList] = useState<HTMLUListElement | null>(null);
  const [top, setTop] = useState(0);
  useEffect(() => {
    if (list && width > 0) setTop(list.getBoundingClientRect().top + window.scrollY);
  }, [list, width]);
  const rowHeight = width < NARROW_PX ? NARROW_ROW_PX : ROW_PX;
  const ratios = images.map((image) => image.widthPx / image.heightPx);
  const rows = width > 0 ? justify(ratios, width, rowHeight, GAP_PX) : [];
  const virtual = useWindowVirtualizer({
    count: rows.length,
    estimateSize: (index) => (rows[index]?.height_px ?? rowHeight) + GAP_PX,
    overscan: 3,
    scrollMargin: top,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: more pictures or another width is another layout
  useEffect(() => virtual.measure(), [images.length, width]);
  const last = virtual.getVirtualItems().at(-1)?.index ?? 0;
  const isNearEnd = rows.length > 0 && last >= rows.length - ROWS_AHEAD;
  // biome-ignore lint/correctness/useExhaustiveDependencies: each page of images may ask for the next
  useEffect(() => {
    if (isNearEnd) onEnd();
  }, [isNearEnd, images.length]);
  return (
    <ul
      ref={(element) => {
        setList(element);
        return ref(element);
      }}
      className={styles.gallery}
      style={{ height: virtual.getTotalSize() }}
      aria-label={texts.library.images}
    >
      {virtual.getVirtualItems().flatMap(({ index, start }) =>
        (rows[index]?.pictures ?? []).map(({ index: at, left_px, width_px }) => {
          const image = images[at];
          if (!image) return null;
          const height = rows[index]?.height_px ?? 0;
          return (
            <li
              key={image.imageId}
              className={styles.place}
              style={{
                width: width_px,
                height,
                transform: `translate(${left_px}px, ${start - top}px)`,
              }}
            >
              <Thumbnail image={image} note={notes?.get(image.imageId)} onOpen={onOpen} />
            </li>
          );
        }),
      )}
    </ul>
  );
}

function Thumbnail({
  image,
  note,
  onOpen,
}: {
  image: Image;
  note: string | undefined;
  onOpen: (imageId: string) => void;
}) {
  const best = image.result?.predictions[0];
  const words =
    note ?? (best ? `${best.category} · ${texts.common.percent(best.confidence)}` : image.filename);
  return (
    <button
      type="button"
      className={styles.picture}
      onClick={() => onOpen(image.imageId)}
      aria-label={texts.library.openImage(image.filename || image.imageId, words)}
    >
      <Picture imageId={image.imageId} widthPx={FETCHED_PX} alt="" />
      {words && <span className={styles.words}>{words}</span>}
    </button>
  );
}
