import { Stack, Text, Title } from "@mantine/core";
import { Figures } from "../../components/figures";
import { type Flip, flipsOf } from "../../evaluation/measures";
import { texts } from "../../texts/en";
import { Pictures } from "./pictures";
import type { Run } from "./run";

/** The images that one version has right and the other one wrong. */
export function Flips({
  before,
  after,
  versions: [first, second],
}: {
  before: Run;
  after: Run;
  versions: [string, string];
}) {
  const { lost, gained, wrongInTwoWays, compared } = flipsOf(before.judged, after.judged);
  return (
    <Stack gap="md" component="section" aria-label={texts.models.flips(first, second)}>
      <Title order={2} size="h4">
        {texts.models.flips(first, second)}
      </Title>
      <Figures
        figures={[
          { label: texts.models.lost, value: String(lost.length) },
          { label: texts.models.gained, value: String(gained.length) },
          { label: texts.models.wrongInTwoWays, value: String(wrongInTwoWays.length) },
          { label: texts.models.compared, value: String(compared) },
        ]}
      />
      <FlipList title={texts.models.lost} flips={lost} />
      <FlipList title={texts.models.gained} flips={gained} />
      <FlipList title={texts.models.wrongInTwoWays} flips={wrongInTwoWays} />
    </Stack>
  );
}

function FlipList({ title, flips }: { title: string; flips: Flip[] }) {
  if (flips.length === 0) return null;
  return (
    <Stack gap="xs">
      <Text fw={600}>{title}</Text>
      <Pictures
        pictures={flips.map(({ imageId, truth, before, after }) => ({
          imageId,
          text: texts.models.flip(truth, before, after),
        }))}
      />
    </Stack>
  );
}
