export const common = {
  product: "Image Categorizer",
  loading: "Loading",
  retry: "Try again",
  cancel: "Cancel",
  close: "Close",
  copy: "Copy",
  copied: "Copied",
  remove: "Remove",
  save: "Save",
  more: "Load more",
  requestId: "Request",
  reason: "Reason",
  unknownError: "Something went wrong in this page",
  noAnswer: "No answer came from the server. Is it running, and is this machine connected?",
  noSuchPage: "There is no such page.",
  toStart: "Go to the first page",
  newRelease: "The server has a new release. Reload this page to go on.",
  reload: "Reload",
  percent: (share: number) => {
    if (share > 0 && share < 0.0005) return "< 0.1 %";
    return `${(100 * share).toFixed(share >= 0.0995 || share === 0 ? 0 : 1)} %`;
  },
  roleNeeded: (role: string) =>
    `This needs the role ${role}. Sign in with a key that has it, or ask an administrator.`,
};
