import { Badge, Box, Group, Stack, Text, UnstyledButton } from "@mantine/core";
import { type Prediction, Prediction_Source } from "../../gen/image_categorizer/v1/types_pb";
import { texts } from "../../texts/en";
import classes from "./bars.module.css";

const t = texts.classify.answer;
const MOST = 12;

/** Predictions as bars, those above the threshold; a click says which one the picture shows. */
export function Bars({
  predictions,
  threshold,
  isCounted,
  selected,
  onSelect,
}: {
  predictions: Prediction[];
  threshold: number;
  /** Whether to say how many are below the threshold. */
  isCounted: boolean;
  selected: string | undefined;
  onSelect: ((category: string) => void) | undefined;
}) {
  const shown = predictions.filter(({ confidence }) => confidence >= threshold);
  const hiddenCount = predictions.length - shown.length;
  return (
    <Stack gap={6}>
      <Stack gap={2} role="list">
        {shown.slice(0, MOST).map((prediction) => (
          <Box role="listitem" key={`${prediction.source ?? ""} ${prediction.category}`}>
            <Bar
              prediction={prediction}
              isSelected={prediction.category === selected}
              onSelect={onSelect}
            />
          </Box>
        ))}
      </Stack>
      {shown.length === 0 && (
        <Text size="sm">
          {t.nothing}.{" "}
          <Text span c="dimmed">
            {t.nothingHint}
          </Text>
        </Text>
      )}
      {isCounted && hiddenCount > 0 && shown.length > 0 && (
        <Text size="xs" c="dimmed">
          {t.hidden(hiddenCount)}
        </Text>
      )}
    </Stack>
  );
}

function Bar({
  prediction: { category, confidence, source },
  isSelected,
  onSelect,
}: {
  prediction: Prediction;
  isSelected: boolean;
  onSelect: ((category: string) => void) | undefined;
}) {
  const row = (
    <>
      <Group justify="space-between" wrap="nowrap" gap="xs">
        <Group gap={6} wrap="nowrap" miw={0}>
          <Text size="sm" truncate>
            {category}
          </Text>
          {source === Prediction_Source.CORRECTION && <Badge size="xs">{t.correction}</Badge>}
          {source === Prediction_Source.OWN_CATEGORY && <Badge size="xs">{t.own}</Badge>}
        </Group>
        <Text size="sm" ff="monospace" style={{ whiteSpace: "nowrap" }}>
          {texts.common.percent(confidence)}
        </Text>
      </Group>
      <Box className={classes.track} aria-hidden>
        <Box className={classes.bar} style={{ width: `${100 * confidence}%` }} />
      </Box>
    </>
  );
  if (!onSelect) return <Box className={classes.row}>{row}</Box>;
  return (
    <UnstyledButton
      className={classes.row}
      data-selected={isSelected || undefined}
      aria-pressed={isSelected}
      title={t.shows(category)}
      onClick={() => onSelect(category)}
    >
      {row}
    </UnstyledButton>
  );
}
