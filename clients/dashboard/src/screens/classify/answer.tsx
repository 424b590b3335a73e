import { Alert, Badge, Group, Stack, Text, Title } from "@mantine/core";
import { IconChevronRight } from "@tabler/icons-react";
import { Fragment } from "react";
import { Answered } from "../../components/states";
import { type Model, Model_Activation } from "../../gen/image_categorizer/v1/metadata_pb";
import type { Prediction } from "../../gen/image_categorizer/v1/types_pb";
import { ImageWarning } from "../../gen/image_categorizer/v1/types_pb";
import { texts } from "../../texts/en";
import { Bars } from "./bars";
import type { Answer, useClassification } from "./classification";
import { type Level, levelsOf, rolledUp } from "./roll_up";
import { Timings } from "./timing";

const t = texts.classify.answer;

type Choice = {
  threshold: number;
  isRolledUp: boolean;
  selected: string | undefined;
  onSelect: ((category: string) => void) | undefined;
};

/** What one model says about the picture. */
export function ModelAnswer({
  query,
  model,
  ...choice
}: { query: ReturnType<typeof useClassification>; model: Model | undefined } & Choice) {
  return (
    <Answered query={query} rows={8}>
      {(answer) => (
        <Stack gap="md">
          <Found answer={answer} model={model} {...choice} />
          <Timings response={answer.response} totalMs={answer.totalMs} />
        </Stack>
      )}
    </Answered>
  );
}

function Found({
  answer,
  model,
  threshold,
  isRolledUp,
  selected,
  onSelect,
}: { answer: Answer; model: Model | undefined } & Choice) {
  const { predictions, warnings, model: ref } = answer.response;
  // Corrections and the tenant's own categories precede the model's.
  const given = predictions.filter(({ source }) => source);
  const own = predictions.filter(({ source }) => !source);
  const rolled = isRolledUp ? rolledUp(own, threshold, isExclusive(model)) : null;
  const [first] = own;
  return (
    <Stack gap="sm">
      <Text size="xs" c="dimmed">
        {ref && t.model(ref.name, ref.version)}
      </Text>
      {warnings.includes(ImageWarning.TRUNCATED) && (
        <Alert color="yellow" variant="light" p="xs">
          {t.truncated}
        </Alert>
      )}
      <Headline level={headlineOf(given, rolled?.level, isRolledUp, first, threshold)} />
      {first && (
        <Path
          levels={pathOf(rolled?.level ?? null, first, own, isRolledUp, isExclusive(model))}
          current={isRolledUp ? rolled?.level.category : undefined}
        />
      )}
      <Bars
        predictions={isRolledUp && rolled?.below.length ? [...given, ...rolled.below] : predictions}
        threshold={isRolledUp ? 0 : threshold}
        isCounted={!isRolledUp}
        selected={selected}
        onSelect={onSelect}
      />
    </Stack>
  );
}

/** Returns the name of what the answer comes down to. */
export function bestOf(
  { response: { predictions } }: Answer,
  model: Model | undefined,
  { threshold, isRolledUp }: Pick<Choice, "threshold" | "isRolledUp">,
): string | undefined {
  const own = predictions.filter(({ source }) => !source);
  const rolled = isRolledUp ? rolledUp(own, threshold, isExclusive(model)) : null;
  const given = predictions.filter(({ source }) => source);
  return headlineOf(given, rolled?.level, isRolledUp, own[0], threshold)?.category;
}

function isExclusive(model: Model | undefined): boolean {
  return model?.activation !== Model_Activation.SIGMOID;
}

type Named = { category: string; confidence: number };

/** Returns what the answer comes down to; null if nothing is certain enough. */
function headlineOf(
  given: Prediction[],
  level: Level | undefined,
  isRolledUp: boolean,
  first: Prediction | undefined,
  threshold: number,
): Named | null {
  if (given[0]) return given[0];
  if (isRolledUp) return level ?? null;
  return first && first.confidence >= threshold ? first : null;
}

function Headline({ level }: { level: Named | null }) {
  return (
    <Group gap="sm" align="baseline" aria-live="polite">
      <Title order={2} size="h3" data-best={level?.category ?? ""}>
        {level ? level.category : t.unknown}
      </Title>
      {level && <Text fw={600}>{texts.common.percent(level.confidence)}</Text>}
    </Group>
  );
}

/** Returns the way from the broadest category to the best one. */
function pathOf(
  level: Level | null,
  first: Prediction,
  own: Prediction[],
  isRolledUp: boolean,
  areExclusive: boolean,
): { category: string; confidence: number | null }[] {
  const end = level
    ? (own.find(
        ({ ancestors, category }) =>
          category === level.category || ancestors.includes(level.category),
      ) ?? first)
    : first;
  const names = [...end.ancestors].reverse();
  const levels = isRolledUp
    ? new Map(levelsOf(own, areExclusive).map((l) => [l.category, l.confidence]))
    : null;
  return [
    ...names.map((category) => ({ category, confidence: levels?.get(category) ?? null })),
    { category: end.category, confidence: levels ? (levels.get(end.category) ?? null) : null },
  ];
}

function Path({
  levels,
  current,
}: {
  levels: { category: string; confidence: number | null }[];
  current: string | undefined;
}) {
  if (levels.length < 2) return null;
  return (
    <Group gap={4} aria-label={t.path} role="group">
      {levels.map(({ category, confidence }, place) => (
        <Fragment key={category}>
          {place > 0 && <IconChevronRight size={14} aria-hidden />}
          <Badge
            variant={category === current ? "filled" : "default"}
            tt="none"
            fw={category === current ? 700 : 400}
          >
            {category}
            {confidence !== null && ` ${texts.common.percent(confidence)}`}
          </Badge>
        </Fragment>
      ))}
    </Group>
  );
}
