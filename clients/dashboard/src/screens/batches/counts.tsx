import { Group, Progress, Text } from "@mantine/core";
import { count } from "../../components/format";
import type { Batch } from "../../gen/image_categorizer/v1/batch_pb";
import { texts } from "../../texts/en";

/** How much of a batch is done, as a bar of what succeeded and what failed. */
export function CountBar({ batch, size = "lg" }: { batch: Batch; size?: "sm" | "lg" }) {
  const words = texts.batches;
  const done = batch.succeededCount + batch.failedCount;
  const label = words.progress(count(done), count(batch.itemCount));
  const share = (part: number) => (100 * part) / Math.max(1, batch.itemCount);
  return (
    <Progress.Root size={size}>
      <Progress.Section
        value={share(batch.succeededCount)}
        color="brand"
        aria-label={`${label}, ${words.batch.counts.succeeded}`}
      />
      {batch.failedCount > 0 && (
        <Progress.Section
          value={share(batch.failedCount)}
          color="red.7"
          aria-label={words.failedCount(count(batch.failedCount))}
        />
      )}
    </Progress.Root>
  );
}

/** The same in words, for rows. */
export function CountWords({ batch }: { batch: Batch }) {
  const words = texts.batches;
  const done = batch.succeededCount + batch.failedCount;
  return (
    <Group gap="xs">
      <Text size="sm">{words.progress(count(done), count(batch.itemCount))}</Text>
      {batch.failedCount > 0 && (
        <Text size="sm" c="var(--mantine-color-error)">
          {words.failedCount(count(batch.failedCount))}
        </Text>
      )}
    </Group>
  );
}
