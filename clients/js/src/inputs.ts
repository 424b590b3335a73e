/** Turns what a caller gives as images into bodies of requests. Files are read while they are sent. */

import type { Body } from "./connection.js";
import { fromBase64 } from "./wire.js";

/**
 * One image: a path, base64, a URL `data:`, `https://`, `s3://`, `gs://` or `az://` as text or as
 * `URL`, encoded bytes, a `Blob` or `File`, or a stream of bytes. The server fetches the image of an
 * address; all others are sent. Paths are for Node.js, Bun and Deno.
 */
export type ImageSource =
  | string
  | URL
  | Uint8Array
  | ArrayBuffer
  | Blob
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>;

/** An image with the name that results and stored images have. */
export interface NamedImage {
  filename: string;
  image: ImageSource;
}

/** The images of a batch: a folder's path, or any images; those whose name ends in `.zip` stand for
 * the images in them. */
export type BatchSources =
  | string
  | Iterable<ImageSource | NamedImage>
  | AsyncIterable<ImageSource | NamedImage>;

type Content = Blob | Uint8Array<ArrayBuffer> | AsyncIterable<Uint8Array>;

/** One image, ready to be sent. */
export interface Input {
  /** As given; empty if it has no name. */
  filename: string;
  /** Where the server fetches the image; empty if it is sent. */
  uri: string;
  content: Content;
}

interface FileSystem {
  createReadStream(path: string, options: { highWaterMark: number }): AsyncIterable<Uint8Array>;
  promises: {
    stat(path: string): Promise<{ isDirectory(): boolean }>;
    readdir(path: string, options: { recursive: true }): Promise<string[]>;
  };
}

const ADDRESS = /^(https?|s3|gs|az):\/\//i;
/** How base64 of an image begins: JPEG, PNG, GIF, RIFF (WebP), TIFF twice, BMP, and `....ftyp`. */
const IMAGE_BASE64 = /^(?:\/9j\/|iVBORw0K|R0lGOD|UklGR|SUkqA|TU0AK|Qk[0-3]|.{5}[GWm2]Z0eX)/;
const BASE64 = /^[A-Za-z0-9+/_\-\s]+={0,2}\s*$/;
const MIN_BASE64_LENGTH = 64;
const CHUNK_BYTES = 2 ** 18;
const SUFFIXES = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic|heif|zip)$/i;

function builtin<T>(name: string): T | undefined {
  const { process } = globalThis as unknown as {
    process?: { getBuiltinModule?(name: string): T | undefined };
  };
  return process?.getBuiltinModule?.(name);
}

const fileSystem = () => builtin<FileSystem>("node:fs");

/** Whether `fetch` sends a stream piece by piece; browsers do so at most over HTTP/2. */
function sendsStreams(): boolean {
  const agent = (globalThis as { navigator?: { userAgent?: string } }).navigator?.userAgent;
  return fileSystem() !== undefined || agent === "Cloudflare-Workers";
}

/**
 * Returns an image.
 *
 * @throws {TypeError} it is of no known kind.
 * @throws {Error} the file cannot be read.
 */
export async function inputOf(source: ImageSource | NamedImage): Promise<Input> {
  if (isNamed(source)) return { ...(await inputOf(source.image)), filename: source.filename };
  if (source instanceof URL) return await ofUrl(source);
  if (typeof source === "string") return await ofText(source);
  if (source instanceof Blob) {
    const name = (source as Partial<File>).name;
    return sent(typeof name === "string" ? name : "", source);
  }
  if (source instanceof Uint8Array) return sent("", source as Uint8Array<ArrayBuffer>);
  if (source instanceof ArrayBuffer) return sent("", new Uint8Array(source));
  if (source instanceof ReadableStream) return sent("", chunks(source));
  if (source && typeof source === "object" && Symbol.asyncIterator in source)
    return sent("", source);
  throw new TypeError(
    "an image is a path, base64, a URL, bytes, a Blob, a stream, or { filename, image }",
  );
}

function sent(filename: string, content: Content): Input {
  return { filename, uri: "", content };
}

function isNamed(source: unknown): source is NamedImage {
  return typeof source === "object" && source !== null && "filename" in source && "image" in source;
}

async function ofUrl(url: URL): Promise<Input> {
  if (url.protocol === "file:") {
    const { fileURLToPath } = builtin<{ fileURLToPath(url: URL): string }>("node:url") ?? {};
    if (fileURLToPath) return await ofPath(fileURLToPath(url));
  }
  if (url.protocol === "blob:") return sent("", await (await fetch(url)).blob());
  return await ofText(url.href);
}

async function ofText(text: string): Promise<Input> {
  if (ADDRESS.test(text)) return { filename: "", uri: text, content: new Uint8Array() };
  if (/^data:/i.test(text)) {
    const [head = "", data = ""] = text.split(/,(.*)/s);
    if (!/;base64$/i.test(head)) throw new TypeError("a URL data: of an image must be base64");
    return sent("", fromBase64(data));
  }
  const isLong = text.length >= MIN_BASE64_LENGTH;
  if (isLong && BASE64.test(text) && (IMAGE_BASE64.test(text) || !fileSystem()))
    return sent("", fromBase64(text));
  return await ofPath(text);
}

async function ofPath(path: string): Promise<Input> {
  const files = fileSystem();
  if (!files) throw new TypeError("there are no paths here: give a File, a Blob or bytes");
  if ((await files.promises.stat(path)).isDirectory())
    throw new TypeError(`${path} is a folder; submitBatch and classifyBatch take folders`);
  return sent(path, new FileContent(files, path));
}

/** The bytes of a file, which is opened for each reader. A Blob of a file would hold all that is read. */
class FileContent implements AsyncIterable<Uint8Array> {
  constructor(
    readonly files: FileSystem,
    readonly path: string,
  ) {}

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    const stream = this.files.createReadStream(this.path, { highWaterMark: CHUNK_BYTES });
    return stream[Symbol.asyncIterator]();
  }
}

/** Returns the name of a file without folders. */
export function baseName(path: string): string {
  return path.split(/[\\/]/).pop() ?? "";
}

/** Returns the images that are meant: those of a folder if its path is given. */
export async function imagesOf(
  sources: BatchSources,
): Promise<Iterable<ImageSource | NamedImage> | AsyncIterable<ImageSource | NamedImage>> {
  if (typeof sources !== "string") {
    // Unlike a generator, what a form's field holds can be read again.
    if (typeof FileList === "function" && sources instanceof FileList) return [...sources];
    if (isMany(sources)) return sources;
    throw new TypeError("a batch takes many images; put a single one into a list: [image]");
  }
  const files = fileSystem();
  if (!files) throw new TypeError("there are no folders here: give a list of images");
  if (!(await files.promises.stat(sources)).isDirectory())
    throw new TypeError(`a batch takes many images; put a single one into a list: ['${sources}']`);
  const names = await files.promises.readdir(sources, { recursive: true });
  const wanted = names.filter((name) => SUFFIXES.test(name)).sort();
  return wanted.map((name) => `${sources.replace(/[\\/]$/, "")}/${name}`);
}

function isMany(sources: Exclude<BatchSources, string>): boolean {
  const isSingle = sources instanceof Uint8Array || sources instanceof ReadableStream;
  return !isSingle && (Symbol.iterator in sources || Symbol.asyncIterator in sources);
}

/** Returns whether an image can be read a second time. */
export function isReadAgain({ content }: Input): boolean {
  return content instanceof Blob || content instanceof Uint8Array || content instanceof FileContent;
}

/** Returns whether the images can be read a second time. */
export function isReplayable(sources: unknown): boolean {
  const isOneShot = (source: unknown): boolean =>
    isNamed(source)
      ? isOneShot(source.image)
      : typeof source === "object" && source !== null && Symbol.asyncIterator in source;
  return Array.isArray(sources)
    ? !sources.some((source) => isOneShot(source) || source instanceof ReadableStream)
    : sources instanceof Set;
}

async function* chunks(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function* bytesOf(content: Content): AsyncGenerator<Uint8Array> {
  if (content instanceof Blob) yield* chunks(content.stream());
  else if (content instanceof Uint8Array) yield content;
  else yield* content;
}

/** Returns a body that is read while it is sent; where `fetch` cannot do that, it is read first. */
async function streamed(pieces: AsyncIterable<Uint8Array>, type: string): Promise<Body> {
  if (!sendsStreams()) {
    const parts: BlobPart[] = [];
    for await (const piece of pieces) parts.push(piece as Uint8Array<ArrayBuffer>);
    return { content: new Blob(parts), type };
  }
  const iterator = pieces[Symbol.asyncIterator]();
  let thrown: unknown;
  const content = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        thrown = error;
        controller.error(error);
      }
    },
    async cancel() {
      await iterator.return?.();
    },
  });
  return { content, type, error: () => thrown };
}

/** Returns the body that is one image. */
export async function imageBody({ content }: Input): Promise<Body> {
  const type = "application/octet-stream";
  if (content instanceof Blob || content instanceof Uint8Array) return { content, type };
  return await streamed(content, type);
}

/** Returns the bytes of one image. */
export async function contentOf({ content }: Input): Promise<Uint8Array> {
  const { content: body } = await imageBody({ filename: "", uri: "", content });
  return new Uint8Array(await new Response(body).arrayBuffer());
}

/** Returns the form of many images, which are opened one after the other. */
export async function formBody(
  sources: Iterable<ImageSource | NamedImage> | AsyncIterable<ImageSource | NamedImage>,
): Promise<Body> {
  if (sendsStreams()) {
    const boundary = `image-categorizer-${crypto.randomUUID()}`;
    return await streamed(form(sources, boundary), `multipart/form-data; boundary=${boundary}`);
  }
  // The browser reads files from the disk while it sends them.
  const content = new FormData();
  let number = 0;
  for await (const source of sources) {
    const input = sentOnly(await inputOf(source));
    const { content: image } = await imageBody(input);
    const blob = image instanceof Blob ? image : new Blob([image as Uint8Array<ArrayBuffer>]);
    content.append("images", blob, input.filename || `${number}`);
    number += 1;
  }
  return { content };
}

async function* form(
  sources: Iterable<ImageSource | NamedImage> | AsyncIterable<ImageSource | NamedImage>,
  boundary: string,
): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  let number = 0;
  for await (const source of sources) {
    const input = sentOnly(await inputOf(source));
    const name = (input.filename || `${number}`).replace(
      /["\r\n]/g,
      (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
    );
    yield encoder.encode(
      `--${boundary}\r\ncontent-disposition: form-data; name="images"; filename="${name}"\r\n` +
        "content-type: application/octet-stream\r\n\r\n",
    );
    yield* bytesOf(input.content);
    yield encoder.encode("\r\n");
    number += 1;
  }
  yield encoder.encode(`--${boundary}--\r\n`);
}

function sentOnly(input: Input): Input {
  if (input.uri) throw new TypeError(`batches.submitUris takes addresses, such as ${input.uri}`);
  return input;
}
