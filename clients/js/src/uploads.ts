import {
  type CallOptions,
  type Client,
  type Connection,
  path,
  sleep,
  split,
} from "./connection.js";
import type * as wire from "./generated/types.js";
import { baseName, contentOf, type ImageSource, inputOf, type NamedImage } from "./inputs.js";
import { type StoredImage, storedImage } from "./wire.js";

/** How the image of an upload is stored. */
export type UploadOptions = Omit<wire.CreateUploadRequest, "sizeBytes" | "sha256"> & CallOptions;

/** How `send` sends an image. */
export interface SendOptions extends UploadOptions {
  /** The size of a part; an upload has at most 200 parts. Default: 1 MiB. */
  partBytes?: number | undefined;
  /** For how long it tries again while no part arrives. Default: 600. */
  patienceS?: number | undefined;
  /** Called with the upload after each part: `offset` of `sizeBytes` are there. */
  onProgress?: ((upload: wire.Upload) => void) | undefined;
}

const PART_BYTES = 2 ** 20;
const PATIENCE_S = 600;
const FIRST_WAIT_S = 0.5;
const MAX_WAIT_S = 10;
const AWAY = new Set(["UNAVAILABLE", "DEADLINE_EXCEEDED"]);

/**
 * Uploads of one image in parts, which go on where they have stopped.
 *
 *     const image = await new Uploads(client).send("photograph.jpg", { tags: ["holiday"] });
 */
export class Uploads {
  readonly #connection: Connection;

  constructor(client: Client) {
    this.#connection = client.connection;
  }

  /**
   * Stores an image that is sent in parts, and returns it. It waits while the server is away. Called
   * again for the same bytes, also by another program, it goes on where the last call has stopped.
   *
   * @throws {Unavailable} the server was away for longer than `patienceS`.
   */
  async send(image: ImageSource | NamedImage, options: SendOptions = {}): Promise<StoredImage> {
    const { partBytes = PART_BYTES, patienceS = PATIENCE_S, onProgress, ...rest } = options;
    const call: CallOptions = { signal: rest.signal, timeoutS: rest.timeoutS };
    const input = await inputOf(image);
    if (input.uri) throw new TypeError("an upload is sent: images.upload takes addresses");
    const content = (await contentOf(input)) as Uint8Array<ArrayBuffer>;
    const filename = rest.filename ?? baseName(input.filename);
    const sha256 = hexadecimal(await crypto.subtle.digest("SHA-256", content));
    let upload = await this.create(content.length, { ...rest, filename, sha256 });
    let waitS = FIRST_WAIT_S;
    let progressMs = Date.now();
    while (!upload.imageId) {
      const part = content.subarray(upload.offset, upload.offset + partBytes);
      try {
        upload = await this.#next(upload, part, call);
      } catch (error) {
        const isOver = Date.now() - progressMs > patienceS * 1000;
        if (isOver || !AWAY.has((error as { status?: string }).status ?? "")) throw error;
        await sleep(waitS * 1000, call.signal);
        waitS = Math.min(2 * waitS, MAX_WAIT_S);
        continue;
      }
      [waitS, progressMs] = [FIRST_WAIT_S, Date.now()];
      onProgress?.(upload);
    }
    const at = path`/v1/images/${upload.imageId}`;
    return storedImage(await this.#connection.call({ ...call, path: at }));
  }

  /** Sends the next part. If an earlier attempt has arrived, the upload goes on behind it. */
  async #next(
    upload: wire.Upload,
    part: Uint8Array<ArrayBuffer>,
    call: CallOptions,
  ): Promise<wire.Upload> {
    try {
      return await this.append(upload.uploadId, upload.offset, part, call);
    } catch (error) {
      if ((error as { reason?: string }).reason !== "UPLOAD_OFFSET_WRONG") throw error;
      const found = await this.get(upload.uploadId, call);
      if (found.offset === upload.offset && found.imageId === upload.imageId) throw error;
      return found;
    }
  }

  /**
   * Begins an upload; with `sha256`, it finds the unfinished one of the same bytes. If the
   * installation has a bucket, a browser without credentials may send the image to `putUrl` with
   * `putHeaders` instead of parts; `complete` follows.
   */
  create(
    sizeBytes: number,
    options: UploadOptions & { sha256?: string | undefined } = {},
  ): Promise<wire.Upload> {
    const [call, rest] = split(options);
    const json = { sizeBytes, ...rest };
    const request = { ...call, method: "POST", path: "/v1/uploads", json } as const;
    // Without the hash, a repeated call creates another upload, which expires.
    return rest.sha256 ? this.#connection.call(request) : this.#connection.callOnce(request);
  }

  /** Returns an upload: how many bytes are there, and which image it has become. */
  get(uploadId: string, call: CallOptions = {}): Promise<wire.Upload> {
    return this.#connection.call({ ...call, path: path`/v1/uploads/${uploadId}` });
  }

  /**
   * Adds the next part; the last one completes the upload.
   *
   * @throws {UploadOffsetWrong} the upload is at another byte than `offset`: `get` says at which.
   */
  append(
    uploadId: string,
    offset: number,
    part: Uint8Array<ArrayBuffer> | Blob,
    call: CallOptions = {},
  ): Promise<wire.Upload> {
    return this.#connection.call({
      ...call,
      method: "PATCH",
      path: path`/v1/uploads/${uploadId}`,
      query: { offset },
      body: async () => ({ content: part, type: "application/octet-stream" }),
    });
  }

  /**
   * Completes an upload whose image was sent to `putUrl`.
   *
   * @throws {UploadIncomplete} the bytes are not there, or not all.
   */
  complete(uploadId: string, call: CallOptions = {}): Promise<wire.Upload> {
    const at = path`/v1/uploads/${uploadId}:complete`;
    return this.#connection.call({ ...call, method: "POST", path: at, json: {} });
  }

  /** Forgets an upload; an image that it has become stays. */
  async cancel(uploadId: string, call: CallOptions = {}): Promise<void> {
    const at = path`/v1/uploads/${uploadId}`;
    await this.#connection.call({ ...call, method: "DELETE", path: at });
  }
}

function hexadecimal(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
