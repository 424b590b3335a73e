import { Anchor, Group, Loader, Paper, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { count, duration, secondsBetween } from "../../components/format";
import { Screen } from "../../components/screen";
import { Answered, Empty, ErrorNotice } from "../../components/states";
import type { Batch } from "../../gen/image_categorizer/v1/batch_pb";
import { texts } from "../../texts/en";
import { BatchActions } from "./actions";
import { CountBar } from "./counts";
import { type Filter, matching } from "./filter";
import { Filters } from "./filters";
import { ResultGrid } from "./grid";
import { ItemDetails } from "./item";
import { useResults } from "./results";
import { batchRoute } from "./route";
import { StateBadge } from "./state";
import { BatchTimeline } from "./timeline";
import { sentFiles } from "./upload";
import { hasEnded, useWatchedBatch } from "./watch";

/** One batch: what becomes of it, and its results. */
export function BatchScreen() {
  const { batchId } = batchRoute.useParams();
  const batch = useWatchedBatch(batchId);
  const [attempt, setAttempt] = useState(0);
  return (
    <Screen
      title={texts.batches.batch.title(batchId)}
      actions={
        batch.data && (
          <BatchActions batch={batch.data} onRetry={() => setAttempt((old) => old + 1)} />
        )
      }
    >
      <Anchor size="sm" renderRoot={(props) => <Link to="/ui/batches" {...props} />}>
        {texts.batches.batch.back}
      </Anchor>
      <Answered query={batch}>
        {(found) => (
          <>
            <Overview batch={found} />
            <Results batch={found} attempt={attempt} />
          </>
        )}
      </Answered>
    </Screen>
  );
}

function Overview({ batch }: { batch: Batch }) {
  const words = texts.batches.batch;
  const done = batch.succeededCount + batch.failedCount;
  return (
    <SimpleGrid cols={{ base: 1, md: 2 }}>
      <Paper withBorder p="md">
        <Stack>
          <Group justify="space-between">
            <StateBadge state={batch.state} />
            <Text size="sm">{texts.batches.progress(count(done), count(batch.itemCount))}</Text>
          </Group>
          <CountBar batch={batch} />
          <Group gap="xl">
            <Figure value={count(batch.succeededCount)} name={words.counts.succeeded} />
            <Figure value={count(batch.failedCount)} name={words.counts.failed} />
            <Figure value={count(batch.pendingCount)} name={words.counts.pending} />
            <Pace batch={batch} />
          </Group>
          {batch.ignoredCount > 0 && (
            <Text size="sm" c="dimmed">
              {words.ignored(count(batch.ignoredCount))}
            </Text>
          )}
        </Stack>
      </Paper>
      <Paper withBorder p="md" component="section" aria-label={texts.batches.timeline.title}>
        <BatchTimeline batch={batch} />
      </Paper>
    </SimpleGrid>
  );
}

/** Rate and time left while it runs; afterwards what it took. */
function Pace({ batch }: { batch: Batch }) {
  const { counts } = texts.batches.batch;
  const took_s = secondsBetween(batch.startTime, batch.endTime);
  if (took_s !== null) {
    const rate = (batch.succeededCount + batch.failedCount) / Math.max(took_s, 0.001);
    return (
      <>
        <Figure value={rate.toFixed(1)} name={counts.rate} />
        <Figure value={duration(took_s)} name={counts.took} />
      </>
    );
  }
  return (
    <>
      <Figure value={batch.itemsPerS.toFixed(1)} name={counts.rate} />
      {batch.remainingTime && (
        <Figure value={duration(Number(batch.remainingTime.seconds))} name={counts.left} />
      )}
    </>
  );
}

function Figure({ value, name }: { value: string; name: string }) {
  return (
    <Stack gap={0}>
      <Text fw={700} size="xl" style={{ fontVariantNumeric: "tabular-nums" }}>
        {value}
      </Text>
      <Text size="sm" c="dimmed">
        {name}
      </Text>
    </Stack>
  );
}

function Results({ batch, attempt }: { batch: Batch; attempt: number }) {
  const filter = batchRoute.useSearch();
  const navigate = batchRoute.useNavigate();
  const { rows, isComplete, error } = useResults(batch.batchId, hasEnded(batch), attempt);
  const words = texts.batches.batch;
  const items = matching(rows, batch.itemCount, filter);
  const files = sentFiles(batch.batchId);
  const setFilter = (search: Filter) => navigate({ search, replace: true, resetScroll: false });
  const show = (item: number) =>
    navigate({ search: (old) => ({ ...old, item }), replace: true, resetScroll: false });
  const opened = filter.item === undefined ? undefined : rows[filter.item];
  const close = () => {
    const { item: _, ...rest } = filter;
    setFilter(rest);
  };
  const move = (step: 1 | -1) => {
    const next = nextWithResult(items, rows, filter.item ?? 0, step);
    if (next !== undefined) show(next);
  };
  return (
    <Stack component="section" aria-label={words.grid}>
      <Group gap="sm">
        <Title order={2} size="h4">
          {words.grid}
        </Title>
        <Text size="sm" c="dimmed" role="status">
          {words.found(count(items.length), count(batch.itemCount))}
        </Text>
        {!isComplete && !error && <Loader size="xs" aria-label={words.reading} />}
      </Group>
      <Filters rows={rows} filter={filter} onChange={setFilter} />
      {error !== null && <ErrorNotice error={error} />}
      {items.length === 0 && isComplete ? (
        <Empty title={words.noneFound} />
      ) : (
        <ResultGrid items={items} rows={rows} files={files} onOpen={show} />
      )}
      {opened && (
        <ItemDetails
          batch={batch}
          row={opened}
          file={files?.get(opened.filename)}
          onClose={close}
          onMove={move}
        />
      )}
    </Stack>
  );
}

/** Returns the next of the shown items that has an outcome, in a direction. */
function nextWithResult(
  items: readonly number[],
  rows: readonly unknown[],
  from: number,
  step: 1 | -1,
): number | undefined {
  for (let at = items.indexOf(from) + step; at >= 0 && at < items.length; at += step) {
    const item = items[at];
    if (item !== undefined && rows[item]) return item;
  }
  return undefined;
}
