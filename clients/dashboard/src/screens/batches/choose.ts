/** A file of a folder that was dropped: `path` is where it lies in it. */
type DroppedFile = File & { readonly path?: string };

const IMAGE = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic|heif)$/i;
const ZIP = /\.zip$/i;
/** What operating systems add to folders; the server ignores the same in zip files. */
const SYSTEM = /(^|\/)(\.DS_Store|\._[^/]*|Thumbs\.db|desktop\.ini|__MACOSX\/.*|@eaDir\/.*)$/i;

export type Choice = {
  files: File[];
  /** How many files are left out because they are neither images nor zip files. */
  leftOutCount: number;
  size_bytes: number;
  hasZip: boolean;
};

/** Returns the name of a file in the results: its path in the folder that was chosen or dropped. */
export function nameOf(file: DroppedFile): string {
  const path = file.webkitRelativePath || file.path || file.name;
  return path.replace(/^(\.?\/)+/, "");
}

/** Returns which of the files become items of a batch. */
export function choose(given: readonly File[]): Choice {
  const wanted = given.filter((file) => !SYSTEM.test(nameOf(file)));
  const files = wanted.filter(
    (file) => IMAGE.test(file.name) || ZIP.test(file.name) || file.type.startsWith("image/"),
  );
  return {
    files,
    leftOutCount: wanted.length - files.length,
    size_bytes: files.reduce((sum, file) => sum + file.size, 0),
    hasZip: files.some((file) => ZIP.test(file.name)),
  };
}

/** Returns what tells these files, sent with these options, from others; not cryptographic. */
export function fingerprint(files: readonly File[], options: string): string {
  let low = 0xdeadbeef;
  let high = 0x41c6ce57;
  const lines = files.map((file) => `${nameOf(file)}\n${file.size}\n${file.lastModified}`);
  for (const character of [...lines.sort(), options].join("\n")) {
    const code = character.codePointAt(0) ?? 0;
    low = Math.imul(low ^ code, 2654435761);
    high = Math.imul(high ^ code, 1597334677);
  }
  return `${files.length}-${(low >>> 0).toString(16)}${(high >>> 0).toString(16)}`;
}
