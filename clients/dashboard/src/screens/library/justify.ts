/** A picture in a row: where it begins, and how wide it is, in pixels. */
type Placed = { index: number; left_px: number; width_px: number };
export type PictureRow = { top_px: number; height_px: number; pictures: Placed[] };

/** Panoramas and ribbons would leave no room for others. */
const MIN_RATIO = 0.4;
const MAX_RATIO = 3.5;

/**
 * Puts pictures into rows that are all as wide as the page, in their order.
 *
 * @param ratios width by height of each picture.
 * @param height_px of a row before it is stretched or shrunk to the width. The last row keeps it.
 */
export function justify(
  ratios: readonly number[],
  width_px: number,
  height_px: number,
  gap_px: number,
): PictureRow[] {
  const rows: PictureRow[] = [];
  let begin = 0;
  let sum = 0;
  let top_px = 0;
  const close = (end: number, height: number) => {
    rows.push({ top_px, height_px: height, pictures: placed(ratios, begin, end, height, gap_px) });
    top_px += height + gap_px;
    begin = end;
    sum = 0;
  };
  for (let index = 0; index < ratios.length; index++) {
    sum += ratioOf(ratios, index);
    const room_px = width_px - (index - begin) * gap_px;
    if (sum * height_px >= room_px) close(index + 1, room_px / sum);
  }
  if (begin < ratios.length) close(ratios.length, height_px);
  return rows;
}

function ratioOf(ratios: readonly number[], index: number): number {
  const ratio = ratios[index] ?? 1;
  return Math.min(MAX_RATIO, Math.max(MIN_RATIO, Number.isFinite(ratio) ? ratio : 1));
}

function placed(
  ratios: readonly number[],
  begin: number,
  end: number,
  height_px: number,
  gap_px: number,
): Placed[] {
  const pictures: Placed[] = [];
  let left_px = 0;
  for (let index = begin; index < end; index++) {
    const width_px = ratioOf(ratios, index) * height_px;
    pictures.push({ index, left_px, width_px });
    left_px += width_px + gap_px;
  }
  return pictures;
}
