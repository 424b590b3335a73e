import { Stack, Table, Text, Title } from "@mantine/core";
import { Answered } from "../../components/states";
import { storedAnswers } from "../../evaluation/answers";
import { Curves } from "../../evaluation/curves";
import { curveOf } from "../../evaluation/measures";
import { useReviewed } from "../../evaluation/reviewed";
import { texts } from "../../texts/en";

const ROWS = [0, 0.25, 0.5, 0.75, 0.9];

/** Precision and recall of a category by threshold, from the images that people have judged. */
export function Quality({ category }: { category: string }) {
  const reviewed = useReviewed();
  return (
    <Answered query={reviewed}>
      {(found) => {
        const judged = storedAnswers(found);
        const shown = judged.filter(({ truth }) => truth === category).length;
        const answered = judged.filter(({ predicted }) => predicted === category).length;
        if (shown + answered === 0) {
          return (
            <Text size="sm" c="dimmed">
              {texts.categories.noQuality}
            </Text>
          );
        }
        const points = curveOf(judged, category);
        return (
          <Stack gap="xs">
            <Title order={3} size="h5">
              {texts.categories.quality}
            </Title>
            <Text size="sm" c="dimmed">
              {texts.categories.qualityOf(shown, answered)}
            </Text>
            <Curves
              label={texts.categories.qualityLabel(category)}
              xName={texts.categories.threshold}
              xs={points.map(({ threshold }) => threshold)}
              curves={[
                {
                  name: texts.categories.precision,
                  values: points.map(({ precision }) => precision),
                  colour: "--mantine-color-blue-6",
                },
                {
                  name: texts.categories.recall,
                  values: points.map(({ recall }) => recall),
                  colour: "--mantine-color-orange-6",
                },
              ]}
            />
            <Table aria-label={texts.categories.qualityLabel(category)}>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>{texts.categories.threshold}</Table.Th>
                  <Table.Th ta="right">{texts.categories.precision}</Table.Th>
                  <Table.Th ta="right">{texts.categories.recall}</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {points
                  .filter(({ threshold }) => ROWS.includes(threshold))
                  .map(({ threshold, precision, recall }) => (
                    <Table.Tr key={threshold}>
                      <Table.Td>{texts.common.percent(threshold)}</Table.Td>
                      <Table.Td ta="right">{shareText(precision)}</Table.Td>
                      <Table.Td ta="right">{shareText(recall)}</Table.Td>
                    </Table.Tr>
                  ))}
              </Table.Tbody>
            </Table>
            <Text size="sm" c="dimmed">
              {texts.categories.bias}
            </Text>
          </Stack>
        );
      }}
    </Answered>
  );
}

function shareText(share: number | null): string {
  return share === null ? "–" : texts.common.percent(share);
}
