import { Stack, Table, Text, Title, UnstyledButton } from "@mantine/core";
import { useState } from "react";
import { confusedCategories, confusionsOf, type Judged } from "../../evaluation/measures";
import { texts } from "../../texts/en";
import classes from "./models.module.css";
import { Pictures } from "./pictures";

const MAX_CATEGORIES = 8;

/** Which category is taken for which; a cell shows its images. */
export function Confusion({ judged }: { judged: Judged[] }) {
  const [chosen, setChosen] = useState<{ truth: string; predicted: string } | null>(null);
  const names = confusedCategories(judged, MAX_CATEGORIES);
  const cells = confusionsOf(judged);
  const cellOf = (truth: string, predicted: string) =>
    cells.find((cell) => cell.truth === truth && cell.predicted === predicted);
  const most = Math.max(1, ...cells.map(({ images }) => images.length));
  const opened = chosen && cellOf(chosen.truth, chosen.predicted);
  return (
    <Stack gap="xs" miw={0}>
      <Title order={2} size="h4">
        {texts.models.confusion}
      </Title>
      <Text size="sm" c="dimmed">
        {texts.models.confusionHint(names.length)}
      </Text>
      <Table.ScrollContainer minWidth={420} scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}>
        <Table className={classes.matrix ?? ""} aria-label={texts.models.confusion}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th className={classes.corner ?? ""}>{texts.models.shownAnswered}</Table.Th>
              {names.map((name) => (
                <Table.Th key={name} className={classes.column ?? ""} title={name}>
                  <span>{name}</span>
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {names.map((truth) => (
              <Table.Tr key={truth}>
                <Table.Th className={classes.row ?? ""} scope="row" title={truth}>
                  {truth}
                </Table.Th>
                {names.map((predicted) => {
                  const count = cellOf(truth, predicted)?.images.length ?? 0;
                  const colour = truth === predicted ? "green" : "red";
                  const strength = Math.round(15 + (45 * count) / most);
                  return (
                    <Table.Td key={predicted} p={2}>
                      {count > 0 && (
                        <UnstyledButton
                          className={classes.cell ?? ""}
                          style={{
                            background: `color-mix(in srgb, var(--mantine-color-${colour}-6) ${strength}%, transparent)`,
                          }}
                          aria-pressed={chosen?.truth === truth && chosen.predicted === predicted}
                          aria-label={texts.models.cell(truth, predicted, count)}
                          onClick={() => setChosen({ truth, predicted })}
                        >
                          {count}
                        </UnstyledButton>
                      )}
                    </Table.Td>
                  );
                })}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      {opened && (
        <Stack gap="xs" component="section" aria-label={texts.models.imagesOfCell}>
          <Text size="sm" fw={600}>
            {texts.models.cell(opened.truth, opened.predicted, opened.images.length)}
          </Text>
          <Pictures
            pictures={opened.images.map(({ imageId, confidence }) => ({
              imageId,
              text: texts.common.percent(confidence),
            }))}
          />
        </Stack>
      )}
    </Stack>
  );
}
