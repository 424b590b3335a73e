import { Paper, SimpleGrid, Text } from "@mantine/core";

/** Figures with their names, side by side. */
export function Figures({
  figures,
}: {
  figures: { label: string; value: string; note?: string }[];
}) {
  return (
    <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="sm">
      {figures.map(({ label, value, note }) => (
        <Paper key={label} withBorder p="sm">
          <Text size="sm" c="dimmed">
            {label}
          </Text>
          <Text size="xl" fw={700}>
            {value}
          </Text>
          {note && <Text size="sm">{note}</Text>}
        </Paper>
      ))}
    </SimpleGrid>
  );
}
