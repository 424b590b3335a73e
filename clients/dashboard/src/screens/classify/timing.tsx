import { Box, Group, Stack, Text, Title } from "@mantine/core";
import type { ClassifyResponse } from "../../gen/image_categorizer/v1/classify_pb";
import { ClassifyResponse_Cache } from "../../gen/image_categorizer/v1/classify_pb";
import { Timing_BatchCloseReason } from "../../gen/image_categorizer/v1/types_pb";
import { texts } from "../../texts/en";
import classes from "./timing.module.css";
import { type Step, stepsOf } from "./waterfall";

const t = texts.classify.timing;

/** Where the time of a call went, as a waterfall. */
export function Timings({ response, totalMs }: { response: ClassifyResponse; totalMs: number }) {
  const isCached = response.cache === ClassifyResponse_Cache.HIT;
  const steps = stepsOf(response, totalMs, isCached);
  const endMs = Math.max(...steps.map(({ beginMs, ms }) => beginMs + ms), 1e-3);
  const { timing } = response;
  return (
    <Stack gap={6} component="section">
      <Title order={3} size="h6">
        {t.title}: {t.ms(totalMs)}
      </Title>
      {steps.map((step) => (
        <Row key={step.name} step={step} endMs={endMs} />
      ))}
      {isCached ? (
        <Text size="xs" c="dimmed">
          {t.cached}
        </Text>
      ) : (
        timing && (
          <Text size="xs" c="dimmed">
            {t.shared(
              timing.batchSize,
              t.reasons[Timing_BatchCloseReason[timing.batchCloseReason] as keyof typeof t.reasons],
            )}
          </Text>
        )
      )}
    </Stack>
  );
}

function Row({ step: { name, beginMs, ms }, endMs }: { step: Step; endMs: number }) {
  const percent = (value: number) => `${(100 * value) / endMs}%`;
  return (
    <Group gap="sm" wrap="nowrap">
      <Text size="xs" w={120}>
        {t[name]}
      </Text>
      <Box className={classes.track} flex={1}>
        <Box className={classes.bar} style={{ left: percent(beginMs), width: percent(ms) }} />
      </Box>
      <Text size="xs" w={64} ta="right" ff="monospace">
        {t.ms(ms)}
      </Text>
    </Group>
  );
}
