import { Paper, SimpleGrid, Text } from "@mantine/core";
import type { ReactNode } from "react";
import { LineChart } from "../../components/line_chart";
import { texts } from "../../texts/en";
import type { ModelStep, Quantiles, Step } from "./rates";

const t = texts.operations;

/** What has happened in the last minutes, as lines. */
export function Charts({ steps }: { steps: Step[] }) {
  const times_s = steps.map(({ end_s }) => end_s);
  const busy = steps.flatMap((step) => step.models.filter(isBusy).map(({ name }) => name));
  const models = [...new Set(busy)];
  const rates = (title: string, of: (step: Step) => Record<string, number>) => (
    <Panel key={title}>
      <Rates title={title} times_s={times_s} counted={steps.map(of)} />
    </Panel>
  );
  return (
    <SimpleGrid cols={{ base: 1, lg: 2 }}>
      {rates(t.calls, (step) => step.calls)}
      {rates(t.errors, (step) => step.errors)}
      {models.map((name) => (
        <Model key={name} name={name} times_s={times_s} steps={steps} />
      ))}
      {rates(t.cache, (step) => step.cache)}
      <Panel>
        <LineChart
          title={t.lag}
          times_s={times_s}
          format={t.length}
          lines={quantileLines(steps.map((step) => step.lag_s))}
        />
      </Panel>
    </SimpleGrid>
  );
}

function Model({ name, times_s, steps }: { name: string; times_s: number[]; steps: Step[] }) {
  const own = steps.map((step) => step.models.find((model) => model.name === name));
  const p95 = (stage: "queue_s" | "decode_s" | "inference_s") =>
    own.map((model) => model?.[stage].p95 ?? null);
  const counted = (of: (model: ModelStep) => Record<string, number>) =>
    own.map((model) => (model ? of(model) : {}));
  return (
    <>
      <Panel>
        <Rates title={t.images(name)} times_s={times_s} counted={counted((one) => one.images)} />
      </Panel>
      <Panel>
        <LineChart
          title={t.stages(name)}
          times_s={times_s}
          format={t.length}
          lines={[
            { name: t.queue, values: p95("queue_s") },
            { name: t.decode, values: p95("decode_s") },
            { name: t.inference, values: p95("inference_s") },
          ]}
        />
      </Panel>
      <Panel>
        <LineChart
          title={t.sizes(name)}
          times_s={times_s}
          format={t.plain}
          lines={[{ name: t.mean, values: own.map((model) => model?.microBatchImages ?? null) }]}
        />
      </Panel>
      <Panel>
        <Rates
          title={t.closes(name)}
          times_s={times_s}
          counted={counted((one) => one.executions)}
        />
      </Panel>
    </>
  );
}

/** Whether a model has seen an image: others take no room. */
function isBusy({ queueDepth, images }: ModelStep): boolean {
  return queueDepth > 0 || Object.keys(images).length > 0;
}

/** One line for each label that was ever counted. */
function Rates({
  title,
  times_s,
  counted,
}: {
  title: string;
  times_s: number[];
  counted: Record<string, number>[];
}) {
  const labels = [...new Set(counted.flatMap((rates) => Object.keys(rates)))].sort();
  if (labels.length === 0) {
    return (
      <>
        <Text fw={600} size="sm">
          {title}
        </Text>
        <Text size="sm" c="dimmed">
          {t.nothing}
        </Text>
      </>
    );
  }
  const lines = labels.map((name) => ({
    name,
    values: counted.map((rates) => rates[name] ?? 0),
  }));
  return <LineChart title={title} times_s={times_s} format={t.rate} lines={lines} />;
}

function Panel({ children }: { children: ReactNode }) {
  return (
    <Paper withBorder p="md">
      {children}
    </Paper>
  );
}

function quantileLines(values: Quantiles[]) {
  return [
    { name: t.median, values: values.map(({ p50 }) => p50) },
    { name: t.p95, values: values.map(({ p95 }) => p95) },
  ];
}
