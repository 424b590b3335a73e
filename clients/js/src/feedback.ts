import { type CallOptions, type Connection, path, split } from "./connection.js";
import type { Feedback, ListFeedbackResponse } from "./generated/types.js";

export type { Feedback };

/** About which result of the image feedback is; default: the newest. */
export interface FeedbackOptions extends CallOptions {
  resultId?: string | undefined;
}

/**
 * What the tenant's people say about results of stored images: `client.feedback`.
 * `client.images.correct` gives the feedback that is given most often.
 */
export class FeedbackBook {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Says that the first prediction of a result is right. */
  confirm(imageId: string, options: FeedbackOptions = {}): Promise<Feedback> {
    return this.#submit(imageId, "RIGHT", options);
  }

  /** Says that the image shows no category of the model: similar ones become `UNKNOWN`. */
  reject(imageId: string, options: FeedbackOptions = {}): Promise<Feedback> {
    return this.#submit(imageId, "NOT_IN_LIST", options);
  }

  /** Yields the feedback, newest first, with what was undone; about one image, or all. */
  list(options: { imageId?: string | undefined } & CallOptions = {}): AsyncGenerator<Feedback> {
    const [call, query] = split(options);
    const request = { ...call, path: "/v1/feedback", query };
    return this.#connection.list(request, (page: ListFeedbackResponse) => page.feedback);
  }

  /** Undoes feedback: answers are again as if it had not been given. */
  undo(feedbackId: string, call: CallOptions = {}): Promise<Feedback> {
    const at = path`/v1/feedback/${feedbackId}`;
    return this.#connection.call({ ...call, method: "DELETE", path: at });
  }

  #submit(imageId: string, judgement: string, options: FeedbackOptions): Promise<Feedback> {
    const [call, rest] = split(options);
    const at = path`/v1/images/${imageId}:feedback`;
    return this.#connection.call({
      ...call,
      method: "POST",
      path: at,
      json: { ...rest, judgement },
    });
  }
}
