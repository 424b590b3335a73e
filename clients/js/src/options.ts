import type { ClassifyOptions } from "./generated/types.js";

/** The version of a model: a number, or an alias such as `stable`. */
export type Version = string | number;

/** How to classify. */
export interface Options extends Omit<ClassifyOptions, "version"> {
  /** The model's version: a number, or an alias such as `stable`. Default: the active version. */
  version?: Version | undefined;
}
