import { type CallOptions, type Client, type Connection, path, split } from "./connection.js";
import type * as wire from "./generated/types.js";
import { contentOf, type ImageSource, inputOf } from "./inputs.js";
import type { VersionOptions } from "./models.js";
import { toBase64 } from "./wire.js";

/** What shows a category: images that are sent and stored, and stored ones. At most 100 in all. */
export interface Examples extends CallOptions {
  images?: Iterable<ImageSource> | undefined;
  imageIds?: Iterable<string> | undefined;
  /** Whose images `images` are. */
  subjectId?: string | undefined;
}

/**
 * The tenant's own categories, which examples teach.
 *
 *     const categories = new OwnCategories(client);
 *     await categories.create("red panda", { images: ["1.jpg", "2.jpg", "3.jpg"] });
 */
export class OwnCategories {
  readonly #connection: Connection;

  constructor(client: Client) {
    this.#connection = client.connection;
  }

  /**
   * Creates a category: within a second, images like its examples are answered with it.
   *
   * @param category its name, at most 128 characters, no `/` and no `:`. `UNKNOWN` teaches what
   * belongs to no category.
   * @throws {CategoryExists} there is a category of this name.
   */
  async create(category: string, examples: Examples = {}): Promise<wire.OwnCategory> {
    const [call, json] = await given(examples);
    const request = { ...call, method: "POST", path: "/v1/categories" } as const;
    return this.#connection.call({ ...request, json: { category, ...json } });
  }

  /** Adds examples to a category. */
  async addExamples(category: string, examples: Examples): Promise<wire.OwnCategory> {
    const [call, json] = await given(examples);
    const at = path`/v1/categories/${category}/examples`;
    return this.#connection.call({ ...call, method: "POST", path: at, json });
  }

  /** Returns a category, with its newest examples. */
  get(category: string, call: CallOptions = {}): Promise<wire.OwnCategory> {
    return this.#connection.call({ ...call, path: path`/v1/categories/${category}` });
  }

  /** Yields the categories by name, without their examples. */
  list(call: CallOptions = {}): AsyncGenerator<wire.OwnCategory> {
    return this.#connection.list(
      { ...call, path: "/v1/categories:own" },
      (page: wire.ListOwnCategoriesResponse) => page.categories,
    );
  }

  /** Removes an example from a category; the stored image remains. */
  async removeExample(category: string, imageId: string, call: CallOptions = {}): Promise<void> {
    const at = path`/v1/categories/${category}/examples/${imageId}`;
    await this.#connection.call({ ...call, method: "DELETE", path: at });
  }

  /** Deletes a category; the stored images remain. */
  async delete(category: string, call: CallOptions = {}): Promise<void> {
    const at = path`/v1/categories/${category}`;
    await this.#connection.call({ ...call, method: "DELETE", path: at });
  }

  /** Returns what decides between the categories, and how the last new head compared. */
  head(options: { model?: string | undefined } & VersionOptions = {}): Promise<wire.CategoryHead> {
    const [call, query] = split(options);
    return this.#connection.call({ ...call, path: "/v1/categories:head", query });
  }
}

async function given(examples: Examples): Promise<[CallOptions, object]> {
  const [call, { images = [], imageIds = [], subjectId }] = split(examples);
  const contents: string[] = [];
  for (const image of images) {
    const input = await inputOf(image);
    if (input.uri)
      throw new TypeError("examples are sent: the server fetches none from an address");
    contents.push(toBase64(await contentOf(input)));
  }
  return [call, { examples: contents, imageIds: [...imageIds], subjectId }];
}
