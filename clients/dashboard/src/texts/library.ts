export const library = {
  title: "Library",
  receipt: {
    verify: "Verify the receipt",
    valid: "The receipt is genuine, and the result is stored as it states.",
    invalid: "The receipt does not hold.",
    key: "Signed by the key",
  },
};
