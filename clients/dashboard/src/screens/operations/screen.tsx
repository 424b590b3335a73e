import { Paper, SimpleGrid, Stack, Text } from "@mantine/core";
import { count, when } from "../../components/format";
import { Screen } from "../../components/screen";
import { Answered } from "../../components/states";
import type { ServerStatistics } from "../../gen/image_categorizer/v1/statistics_pb";
import { texts } from "../../texts/en";
import { Charts } from "./charts";
import { useLive } from "./live";

const t = texts.operations;

/** What a server process does now. */
export function Operations() {
  const { statistics, steps } = useLive();
  return (
    <Screen title={t.title}>
      <Answered query={statistics}>
        {(now) => (
          <Stack>
            <Stack gap={4}>
              <Text size="sm">{t.process(now.release, when(now.startTime))}</Text>
              <Text size="sm" c="dimmed">
                {t.oneOf}
              </Text>
            </Stack>
            <Figures now={now} />
            {steps.length ? <Charts steps={steps} /> : <Text c="dimmed">{t.waiting}</Text>}
          </Stack>
        )}
      </Answered>
    </Screen>
  );
}

function Figures({ now }: { now: ServerStatistics }) {
  const figures = [
    [t.inFlight, now.inFlightCount],
    [t.chunks, now.pending?.chunkCount ?? 0],
    [t.messages, now.pending?.messageCount ?? 0],
    [t.deliveries, now.pending?.deliveryCount ?? 0],
  ] as const;
  return (
    <SimpleGrid cols={{ base: 2, md: 4 }}>
      {figures.map(([name, value]) => (
        <Paper withBorder p="md" key={name}>
          <Text size="sm" c="dimmed">
            {name}
          </Text>
          <Text fz={28} fw={600}>
            {count(value)}
          </Text>
        </Paper>
      ))}
    </SimpleGrid>
  );
}
