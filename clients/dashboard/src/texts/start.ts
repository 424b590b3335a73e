export const start = {
  title: "Start",
  intro:
    "Image Categorizer sorts photographs into categories. Three steps bring your program to its first answer.",
  steps: {
    key: "Make a key for your program",
    call: "Call the API",
    see: "See what else there is",
  },
  key: {
    hint: "A key of its own can be revoked without stopping anything else. It may classify, and nothing more.",
    name: "Name of the key",
    nameDefault: "my program",
    make: "Make the key",
    shown: "This is the only time that the key is shown. Keep it like a password.",
    label: "The new key",
    notAllowed:
      "Your key may not make others. Ask an administrator for a key with the role classifier; the calls below work with it.",
  },
  call: {
    hint: "Copy it, and put a photograph of your own in the place of cat.jpg.",
    pending: "Filled in once you have made a key; until then, with the variable API_KEY.",
    seen: "The first call has come: the key was used.",
    waiting: "Waiting for the first call with the new key",
  },
  see: {
    classify: "Try a picture in this page",
    classifyHint: "Drop, paste or photograph one, and see why the model answers as it does.",
    batches: "Classify a folder",
    batchesHint: "Drop many pictures or a zip, and export what was found.",
    categories: "Teach categories of your own",
    categoriesHint: "Five examples are enough to begin.",
    documentation: "Read the documentation",
    documentationHint: "Guides, the API reference with a form to try it, and the SDKs.",
  },
};
