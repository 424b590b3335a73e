import { access } from "./access";
import { batches } from "./batches";
import { categories } from "./categories";
import { classify } from "./classify";
import { common } from "./common";
import { library } from "./library";
import { models } from "./models";
import { operations } from "./operations";
import { review } from "./review";
import { shell } from "./shell";
import { start } from "./start";

/** All that the dashboard says, in English. Another language has the same shape. */
export const texts = {
  access,
  batches,
  categories,
  classify,
  common,
  library,
  models,
  operations,
  review,
  shell,
  start,
};
