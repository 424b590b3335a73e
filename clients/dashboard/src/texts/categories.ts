function count(number: number, one: string, many: string): string {
  return number === 1 ? `1 ${one}` : `${number.toLocaleString("en")} ${many}`;
}

export const categories = {
  title: "Categories",
  ofModel: "Of a model",
  own: "Your own",
  modelLabel: "Model",
  model: (name: string, version: string) => `${name}, version ${version}`,
  search: "Search categories",
  tree: "Categories",
  count: (own: number, broader: number) =>
    `${count(own, "category", "categories")}${broader > 0 ? `, ${count(broader, "broader one", "broader ones")}` : ""}`,
  notFound: (words: string) => `No category has “${words}” in its name`,
  chooseOne: "Choose a category",
  chooseHint: "You see where it stands in the tree, and how good its answers are.",
  id: (id: string) => `Identifier ${id}`,
  below: (number: number) => `${number.toLocaleString("en")} directly below`,
  toReview: "Judge images with this answer",
  quality: "Precision and recall by threshold",
  qualityLabel: (category: string) => `Precision and recall of ${category} by threshold`,
  qualityOf: (shown: number, answered: number) =>
    `People say of ${count(shown, "image", "images")} that it shows the category; the model answers it for ${count(answered, "judged image", "judged images")}.`,
  noQuality:
    "Nobody has judged an image that shows this category, or is answered with it. Precision and recall appear when somebody has.",
  threshold: "Threshold",
  precision: "Precision",
  recall: "Recall",
  bias: "These are the figures of the images that people have judged. The most uncertain ones are judged first, so all images together do better.",
  make: "New category",
  noneOwn: "You have no categories of your own",
  noneOwnHint:
    "Five pictures are enough to begin. From then on, answers have your category where it fits better than those of the model.",
  examples: (number: number) => count(number, "example", "examples"),
  byMeans: "The mean of each category's examples decides.",
  byRegression: "A logistic regression on the embeddings decides.",
  known: (number: number) => ` It knows ${count(number, "example", "examples")}.`,
  fitting: " It is being fitted again.",
  trial: (right: number, before: number, total: number) =>
    ` On ${total} held-out examples, the last regression had ${right} right, what decided before ${before}.`,
  name: "Name",
  nameHint: "As it stands in answers. Without / and :",
  pictures: "Pictures",
  drop: "Drop pictures here, or click to choose them",
  notTaken: "Not pictures, or too large",
  leaveOut: (name: string) => `Leave out ${name}`,
  storing: (stored: number, all: number) => `${stored} of ${all} stored`,
  enough: (number: number, wanted: number) =>
    number >= wanted
      ? `${count(number, "example", "examples")}.`
      : `${count(number, "example", "examples")}. With ${wanted}, from different views, most pictures are recognized.`,
  teach: "Teach it",
  example: (number: number) => `Example ${number}`,
  removeExample: (number: number) => `Remove example ${number}`,
  addExamples: (number: number) => `Add ${count(number, "example", "examples")}`,
  end: "Delete category",
  endTitle: (category: string) => `Delete ${category}?`,
  endHint: "Answers no longer have this category. Its pictures remain stored.",
};
