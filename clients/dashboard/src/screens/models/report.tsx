import { Alert, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { Figures } from "../../components/figures";
import { Curves } from "../../evaluation/curves";
import { calibrationError, calibrationOf, rightCount } from "../../evaluation/measures";
import { texts } from "../../texts/en";
import { Confusion } from "./confusion";
import type { Run } from "./run";

const BINS = 10;

/** How good one version is: how often it is right, whether its confidences are honest, and what it confuses. */
export function Report({ run: { judged, failedCount } }: { run: Run }) {
  if (judged.length === 0) return <Text>{texts.models.nothingRun}</Text>;
  const right = rightCount(judged);
  const bins = calibrationOf(judged, BINS);
  const sure = judged.reduce((sum, { confidence }) => sum + confidence, 0) / judged.length;
  return (
    <Stack gap="lg">
      <Figures
        figures={[
          {
            label: texts.models.accuracy,
            value: texts.common.percent(right / judged.length),
            note: texts.models.rightOf(right, judged.length),
          },
          { label: texts.models.meanConfidence, value: texts.common.percent(sure) },
          { label: texts.models.calibrationError, value: calibrationError(bins).toFixed(3) },
          { label: texts.models.failed, value: String(failedCount) },
        ]}
      />
      <Alert variant="light" color="gray">
        {texts.models.bias}
      </Alert>
      <SimpleGrid cols={{ base: 1, md: 2 }} spacing="xl">
        <Stack gap="xs" miw={0}>
          <Title order={2} size="h4">
            {texts.models.calibration}
          </Title>
          <Text size="sm" c="dimmed">
            {texts.models.calibrationHint}
          </Text>
          <Curves
            label={texts.models.calibrationLabel(
              bins.map((bin) => [bin.meanConfidence, bin.rightShare, bin.count] as const),
            )}
            xName={texts.models.confidence}
            xs={[0, ...bins.map(({ meanConfidence }) => meanConfidence), 1]}
            curves={[
              {
                name: texts.models.right,
                values: [null, ...bins.map(({ rightShare }) => rightShare), null],
                colour: "--mantine-color-blue-6",
                kind: "points",
              },
              {
                name: texts.models.perfect,
                values: [0, ...bins.map(({ meanConfidence }) => meanConfidence), 1],
                colour: "--mantine-color-gray-6",
                kind: "dashed",
              },
            ]}
          />
        </Stack>
        <Confusion judged={judged} />
      </SimpleGrid>
    </Stack>
  );
}
