import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

const UNITS = ["B", "kB", "MB", "GB", "TB"];
const TIME = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const COUNT = new Intl.NumberFormat("en");

/** A size as people read it: `1.4 MB`. */
export function bytes(size_bytes: number): string {
  let unit = 0;
  let size = size_bytes;
  while (size >= 999.5 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 || size >= 99.5 ? size.toFixed(0) : size.toFixed(1)} ${UNITS[unit]}`;
}

/** A length of time as people read it: `42 s`, `3 min 5 s`, `2 h 7 min`. */
export function duration(length_s: number): string {
  if (length_s < 9.95) return `${Math.max(0, length_s).toFixed(1)} s`;
  const whole_s = Math.round(length_s);
  if (whole_s < 60) return `${whole_s} s`;
  if (whole_s < 3600) return `${Math.floor(whole_s / 60)} min ${whole_s % 60} s`;
  return `${Math.floor(whole_s / 3600)} h ${Math.floor((whole_s % 3600) / 60)} min`;
}

export function count(number: number): string {
  return COUNT.format(number);
}

export function when(time: Timestamp | undefined): string {
  return time ? TIME.format(timestampDate(time)) : "";
}

/** How many seconds lie between two times; null if one is missing. */
export function secondsBetween(from: Timestamp | undefined, to: Timestamp | undefined) {
  if (!from || !to) return null;
  return (timestampDate(to).getTime() - timestampDate(from).getTime()) / 1000;
}
