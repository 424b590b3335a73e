/**
 * Runs a task for each item, some at a time, and waits for all.
 *
 * @param width how many tasks run at once, at least 1.
 * @param signal no task starts after it has fired.
 * @returns for each item that was begun what its task has returned, or why it failed.
 */
export async function eachOf<Item, Result>(
  items: readonly Item[],
  width: number,
  task: (item: Item) => Promise<Result>,
  signal?: AbortSignal,
): Promise<{ item: Item; value?: Result; error?: unknown }[]> {
  const ended: { item: Item; value?: Result; error?: unknown }[] = [];
  const waiting = items[Symbol.iterator]();
  const run = async () => {
    for (const item of waiting) {
      if (signal?.aborted) return;
      try {
        ended.push({ item, value: await task(item) });
      } catch (error) {
        ended.push({ item, error });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, run));
  return ended;
}
