import { type CallOptions, type Client, type Connection, path, split } from "./connection.js";
import type * as wire from "./generated/types.js";
import { type StoredImage, storedImage } from "./wire.js";

/** A stored image that nobody has judged. */
export interface ReviewItem extends Omit<wire.ReviewItem, "image"> {
  image: StoredImage;
}

/** Which images `list` yields, and in which order. */
export type ReviewFilters = Omit<wire.ListReviewItemsRequest, "pageSize" | "pageToken">;

/**
 * The stored images whose newest result nobody has judged. `client.feedback.confirm`,
 * `client.feedback.reject` and `client.images.correct` judge one.
 *
 *     const reviews = new Reviews(client);
 *     for await (const { image, uncertainty } of reviews.list())
 *       console.log(image.filename, image.result?.category, uncertainty);
 */
export class Reviews {
  readonly #connection: Connection;

  constructor(client: Client) {
    this.#connection = client.connection;
  }

  /** Yields the images that nobody has judged, those first that a judgement helps most. */
  list(options: ReviewFilters & CallOptions = {}): AsyncGenerator<ReviewItem> {
    const [call, query] = split(options);
    return this.#connection.list(
      { ...call, path: "/v1/reviews", query },
      (page: wire.ListReviewItemsResponse) => page.items.map(item),
    );
  }

  /** Puts an image aside, for all reviewers. */
  async skip(imageId: string, call: CallOptions = {}): Promise<ReviewItem> {
    const at = path`/v1/reviews/${imageId}:skip`;
    return item(await this.#connection.call({ ...call, method: "POST", path: at, json: {} }));
  }

  /** Returns how far reviewers agree about the results that two or more have judged. */
  agreement(
    options: wire.GetReviewAgreementRequest & CallOptions = {},
  ): Promise<wire.ReviewAgreement> {
    const [call, query] = split(options);
    return this.#connection.call({ ...call, path: "/v1/reviews/agreement", query });
  }
}

function item(given: wire.ReviewItem): ReviewItem {
  return { ...given, image: storedImage(given.image) };
}
