import { Group, Progress, Stack, Text } from "@mantine/core";
import { texts } from "../texts/en";

/** Categories with their confidence as bars, most confident first. */
export function Predictions({
  predictions,
}: {
  predictions: readonly { category: string; confidence: number }[];
}) {
  return (
    <Stack gap="xs" component="ul" m={0} p={0} style={{ listStyle: "none" }}>
      {predictions.map(({ category, confidence }) => (
        <li key={category}>
          <Group justify="space-between" gap="sm" wrap="nowrap">
            <Text size="sm" truncate>
              {category}
            </Text>
            <Text size="sm" c="dimmed" style={{ whiteSpace: "nowrap" }}>
              {texts.common.percent(confidence)}
            </Text>
          </Group>
          <Progress value={100 * confidence} size="sm" aria-label={category} />
        </li>
      ))}
    </Stack>
  );
}
