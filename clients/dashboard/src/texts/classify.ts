export const classify = {
  title: "Classify",
};
