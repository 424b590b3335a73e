import { type CallOptions, type Connection, path, split } from "./connection.js";
import type { Feedback } from "./feedback.js";
import type * as wire from "./generated/types.js";
import {
  baseName,
  contentOf,
  type ImageSource,
  type Input,
  imageBody,
  inputOf,
  isReadAgain,
  type NamedImage,
} from "./inputs.js";
import type { Version } from "./options.js";
import { MAX_ATTEMPTS, MAX_CUTS, Retries } from "./retries.js";
import {
  decode,
  type SimilarImage,
  type StoredImage,
  similarImages,
  storedImage,
  toBase64,
} from "./wire.js";

/** Which images `images.list` yields: those that pass all filters. */
export type ImageFilters = Omit<wire.ListImagesRequest, "pageSize" | "pageToken">;

/** How `images.content` shows an image. */
export interface ContentOptions extends CallOptions {
  /** In pixels; default: as the height demands, or as wide as it is. */
  width?: number | undefined;
  /** In pixels; default: as the width demands, or as high as it is. */
  height?: number | undefined;
  /** `scale_down` never enlarges, `contain` does; `cover` fills both sides and cuts off the rest. */
  fit?: "scale_down" | "contain" | "cover" | undefined;
  /** `avif` only where the server writes it. */
  format?: "jpeg" | "png" | "webp" | "avif" | undefined;
  /** 1 to 100; default: 85. */
  quality?: number | undefined;
}

/** Among which images to look for similar ones, and how many are wanted. */
export interface SimilarOptions extends CallOptions {
  /** At most 100. Default: 10. */
  limit?: number | undefined;
  /** The model whose embeddings are compared. Default: the server's. */
  model?: string | undefined;
  version?: Version | undefined;
}

/** The tenant's stored images: `client.images`. `classifyImage` with `store` stores one, too. */
export class Images {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Stores an image, or returns the one that is stored of the same bytes and subject. */
  async upload(
    image: ImageSource | NamedImage,
    options: Omit<wire.UploadImageRequest, "image" | "imageUri"> & CallOptions = {},
  ): Promise<StoredImage> {
    const [call, rest] = split(options);
    const input = await inputOf(image);
    const found: wire.Image = await upload(this.#connection, "/v1/images", input, rest, call);
    return storedImage(found);
  }

  /** Returns one image, without its content. */
  async get(imageId: string, call: CallOptions = {}): Promise<StoredImage> {
    return storedImage(await this.#connection.call({ ...call, path: path`/v1/images/${imageId}` }));
  }

  /** Returns the content of an image: upright, without metadata, encoded anew. */
  content(imageId: string, options: ContentOptions = {}): Promise<Blob> {
    const [call, query] = split(options);
    return this.#connection.repeat(
      { ...call, path: path`/v1/images/${imageId}/content`, query },
      new Retries(MAX_ATTEMPTS, this.#connection.budget, MAX_CUTS),
      (response) => response.blob(),
    );
  }

  /** Yields the images that pass all filters, newest first. */
  list(filters: ImageFilters & CallOptions = {}): AsyncGenerator<StoredImage> {
    const [call, query] = split(filters);
    return this.#connection.list(
      { ...call, path: "/v1/images", query },
      (page: wire.ListImagesResponse) => page.images.map(storedImage),
    );
  }

  /** Changes the file name and the tags of an image; an empty list removes all tags. */
  async update(
    imageId: string,
    changes: { filename?: string | undefined; tags?: string[] | undefined },
    call: CallOptions = {},
  ): Promise<StoredImage> {
    const clear = changes.tags?.length === 0 ? ["tags"] : undefined;
    const at = path`/v1/images/${imageId}`;
    const json = { ...changes, clear };
    return storedImage(await this.#connection.call({ ...call, method: "PATCH", path: at, json }));
  }

  /** Says what a stored image shows: the next answers for similar images become that. */
  correct(
    imageId: string,
    category: string,
    options: { resultId?: string | undefined } & CallOptions = {},
  ): Promise<Feedback> {
    const [call, rest] = split(options);
    return this.#connection.call({
      ...call,
      method: "POST",
      path: path`/v1/images/${imageId}:feedback`,
      json: { ...rest, judgement: "WRONG", category },
    });
  }

  /** Returns the stored images most similar to a stored one, the most similar first. */
  async similar(imageId: string, options: SimilarOptions = {}): Promise<SimilarImage[]> {
    const [call, query] = split(options);
    const at = path`/v1/images/${imageId}:similar`;
    return similarImages(await this.#connection.call({ ...call, path: at, query }));
  }

  /** Returns the stored images most similar to one that is sent, and not stored. */
  async like(image: ImageSource, options: SimilarOptions = {}): Promise<SimilarImage[]> {
    const [call, rest] = split(options);
    const json = { ...(await source(image)), ...rest };
    const request = { ...call, method: "POST", path: "/v1/images:similar", json } as const;
    return similarImages(await this.#connection.call(request));
  }

  /** Deletes an image with all that is known about it. */
  async delete(imageId: string, call: CallOptions = {}): Promise<void> {
    await this.#connection.call({ ...call, method: "DELETE", path: path`/v1/images/${imageId}` });
  }
}

/** Returns an image as fields of a JSON request. */
export async function source(image: ImageSource): Promise<{ image?: string; imageUri?: string }> {
  const input = await inputOf(image);
  return input.uri ? { imageUri: input.uri } : { image: toBase64(await contentOf(input)) };
}

/** Returns the answer to a request that carries one image; what can be read again is sent again. */
export async function upload<T>(
  connection: Connection,
  to: string,
  input: Input,
  query: { filename?: string | undefined },
  call: CallOptions,
): Promise<T> {
  const filename = query.filename ?? (baseName(input.filename) || undefined);
  const request = { ...call, method: "POST", path: to } as const;
  if (input.uri)
    return connection.call({ ...request, query: { ...query, imageUri: input.uri }, body: noImage });
  return connection.repeat<T>(
    { ...request, query: { ...query, filename }, body: () => imageBody(input) },
    new Retries(isReadAgain(input) ? MAX_ATTEMPTS : 1, connection.budget, MAX_CUTS),
    async (response) => decode(await response.json()) as T,
  );
}

async function noImage() {
  return { content: "", type: "application/octet-stream" };
}
