function images(count: number): string {
  return count === 1 ? "1 image" : `${count.toLocaleString("en")} images`;
}

export const models = {
  title: "Models",
  none: "The server has found no model",
  noneHint: "`image-categorizer models add` adds one to the repository.",
  versions: "Versions",
  evaluation: "Evaluation",
  standard: "default",
  versionsOf: (name: string) => `Versions of ${name}`,
  model: "Model",
  version: "Version",
  state: "State",
  aliases: "Aliases",
  runs: "Runs on",
  categories: "Categories",
  memory: "Memory",
  actions: "Change",
  input: (widthPx: number, heightPx: number) => `${widthPx} × ${heightPx} px`,
  mebibytes: (size: number) => `${Math.round(size).toLocaleString("en")} MiB`,
  canaryShare: (percent: number) => `canary, ${Number(percent.toFixed(1))} %`,
  states: ["unknown", "loading", "ready", "failed", "unloaded", "standby"],
  change: (name: string, version: string) => `Change ${name}, version ${version}`,
  changeShort: "Change",
  rollBack: (version: string) => `Roll back to version ${version}`,
  kinds: {
    promote: (_: string) => "Promote to stable",
    rollBack: (_: string) => "Roll back",
    canary: (_: string) => "Make it the canary…",
    removeAlias: (alias: string) => `Remove alias ${alias}`,
    load: (_: string) => "Load",
    unload: (_: string) => "Unload",
  },
  asks: {
    promote: (model: string, version: string, _: string) =>
      `Promote version ${version} of ${model}?`,
    rollBack: (model: string, version: string, _: string) =>
      `Roll ${model} back to version ${version}?`,
    canary: (model: string, version: string, _: string) =>
      `Make version ${version} of ${model} the canary?`,
    removeAlias: (model: string, version: string, alias: string) =>
      `Remove the alias ${alias} from version ${version} of ${model}?`,
    load: (model: string, version: string, _: string) => `Load version ${version} of ${model}?`,
    unload: (model: string, version: string, _: string) => `Unload version ${version} of ${model}?`,
  },
  meanings: {
    promote:
      "The alias stable moves to this version. Requests that name no version use it from the next one on, on all servers within seconds.",
    rollBack:
      "The alias stable moves back to this earlier version. Requests that name no version use it from the next one on, on all servers within seconds.",
    canary:
      "It takes a share of the requests that name no version. The same image always goes to the same version.",
    removeAlias:
      "Requests that name the alias are refused. Without stable, the newest version answers requests that name no version.",
    load: "It takes seconds; a first export takes minutes.",
    unload:
      "Its memory is freed, and requests that name it are refused, until it is loaded or gets an alias.",
  },
  done: {
    promote: (model: string, version: string, _: string) =>
      `Version ${version} of ${model} is stable.`,
    rollBack: (model: string, version: string, _: string) =>
      `Version ${version} of ${model} is stable again.`,
    canary: (model: string, version: string, _: string) =>
      `Version ${version} of ${model} is the canary.`,
    removeAlias: (model: string, _: string, alias: string) => `${model} has no alias ${alias}.`,
    load: (model: string, version: string, _: string) => `Version ${version} of ${model} serves.`,
    unload: (model: string, version: string, _: string) =>
      `Version ${version} of ${model} is unloaded.`,
  },
  canaryPercent: "Share of the requests",
  noneServes: "No version serves",
  against: "Compare with",
  againstNone: "no version",
  noReviewed: "Nobody has judged an image of this model's categories",
  noReviewedHint:
    "Judge images on the screen Review. What people say about them is what versions are measured by here. `image-categorizer evaluate` measures by a labelled folder.",
  evaluate: "Evaluate",
  evaluates: (count: number, versions: number) =>
    `Classifies ${images(count)} that people have judged${versions > 1 ? ", by both versions" : ""}. They count as usage.`,
  leftOut: (count: number) =>
    count === 0 ? "" : `${images(count)} of categories that the model does not have are left out.`,
  progress: "Images classified",
  nothingRun: "No image was classified.",
  accuracy: "Accuracy",
  rightOf: (right: number, total: number) => `${right} of ${total} right`,
  meanConfidence: "Mean confidence",
  calibrationError: "Calibration error (ECE)",
  failed: "Failed",
  bias: "People judge the most uncertain images first. All images together do better than these, so compare versions by these figures rather than take them for the accuracy.",
  calibration: "Calibration",
  calibrationHint:
    "How often answers are right, by their confidence. On the dashed line, confidences are honest; below it, the model is too sure.",
  calibrationLabel: (bins: (readonly [number, number, number])[]) =>
    `Calibration: ${bins
      .map(
        ([confidence, right, count]) =>
          `at ${Math.round(100 * confidence)} % confidence ${Math.round(100 * right)} % of ${count} right`,
      )
      .join("; ")}`,
  confidence: "Confidence",
  right: "Right",
  perfect: "Honest",
  confusion: "Confusion matrix",
  confusionHint: (count: number) =>
    `The ${count} categories in the most mistakes. Rows are what images show, columns are the answers. Choose a cell to see its images.`,
  shownAnswered: "Shown, answered",
  cell: (truth: string, predicted: string, count: number) =>
    truth === predicted
      ? `${truth}, answered right: ${images(count)}`
      : `${truth}, answered ${predicted}: ${images(count)}`,
  imagesOfCell: "Images of the cell",
  moreImages: (count: number) => `And ${images(count)} more.`,
  flips: (first: string, second: string) => `From version ${first} to version ${second}`,
  lost: "Lost",
  gained: "Gained",
  wrongInTwoWays: "Wrong in two ways",
  compared: "Compared",
  flip: (truth: string, before: string, after: string) => `${truth}: ${before} → ${after}`,
};
