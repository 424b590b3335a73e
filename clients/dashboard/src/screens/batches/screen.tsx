import { useInfiniteQuery } from "@connectrpc/connect-query";
import { Anchor, Button, Group, Select, Stack, Table, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMay } from "../../api/caller";
import { duration, secondsBetween, when } from "../../components/format";
import { Screen } from "../../components/screen";
import { Answered, Empty } from "../../components/states";
import { type Batch, Batch_State, BatchService } from "../../gen/image_categorizer/v1/batch_pb";
import { texts } from "../../texts/en";
import { CountBar, CountWords } from "./counts";
import { batchesRoute, LISTED_STATES } from "./route";
import { StateBadge } from "./state";
import { UploadPanel } from "./upload_panel";
import { hasEnded } from "./watch";

const PAGE_SIZE = 50;
const REFRESH_MS = 2000;

/** Sends batches and lists those that there are. */
export function Batches() {
  const isClassifier = useMay("classifier");
  return (
    <Screen title={texts.batches.title}>
      {isClassifier && <UploadPanel />}
      <BatchList />
    </Screen>
  );
}

function BatchList() {
  const { state } = batchesRoute.useSearch();
  const navigate = batchesRoute.useNavigate();
  const words = texts.batches;
  const list = useInfiniteQuery(
    BatchService.method.listBatches,
    { pageSize: PAGE_SIZE, pageToken: "", state: Batch_State[state ?? "STATE_UNSPECIFIED"] },
    {
      pageParamKey: "pageToken",
      getNextPageParam: (last) => last.nextPageToken || undefined,
      refetchInterval: ({ state: { data } }) =>
        data?.pages.some((page) => page.batches.some((batch) => !hasEnded(batch)))
          ? REFRESH_MS
          : false,
    },
  );
  return (
    <Stack gap="sm">
      <Group justify="space-between">
        <Title order={2} size="h4">
          {words.list}
        </Title>
        <Select
          aria-label={words.stateFilter}
          placeholder={words.anyState}
          data={LISTED_STATES.map((value) => ({ value, label: words.state[value] }))}
          value={state ?? null}
          onChange={(value) => {
            const chosen = LISTED_STATES.find((name) => name === value);
            navigate({ search: chosen ? { state: chosen } : {}, replace: true });
          }}
          clearable
          w={180}
        />
      </Group>
      <Answered query={list}>
        {({ pages }) => <BatchRows batches={pages.flatMap((page) => page.batches)} />}
      </Answered>
      {list.hasNextPage && (
        <Button
          variant="default"
          loading={list.isFetchingNextPage}
          onClick={() => list.fetchNextPage()}
        >
          {texts.common.more}
        </Button>
      )}
    </Stack>
  );
}

function BatchRows({ batches }: { batches: Batch[] }) {
  const { state } = batchesRoute.useSearch();
  const isClassifier = useMay("classifier");
  const words = texts.batches;
  if (batches.length === 0) {
    if (state) return <Empty title={words.noneInState} />;
    return <Empty title={words.none}>{isClassifier ? words.noneHint : words.noneForViewers}</Empty>;
  }
  return (
    <Table.ScrollContainer
      minWidth={560}
      scrollAreaProps={{ viewportProps: { tabIndex: 0, "aria-label": words.list, role: "region" } }}
    >
      <Table highlightOnHover verticalSpacing="xs">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{words.columns.batch}</Table.Th>
            <Table.Th>{words.columns.state}</Table.Th>
            <Table.Th miw={180}>{words.columns.progress}</Table.Th>
            <Table.Th>{words.columns.created}</Table.Th>
            <Table.Th>{words.columns.took}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {batches.map((batch) => (
            <BatchRow key={batch.batchId} batch={batch} />
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function BatchRow({ batch }: { batch: Batch }) {
  const took_s = secondsBetween(batch.startTime, batch.endTime);
  return (
    <Table.Tr>
      <Table.Td>
        <Anchor
          ff="monospace"
          size="sm"
          renderRoot={(props) => (
            <Link to="/ui/batches/$batchId" params={{ batchId: batch.batchId }} {...props} />
          )}
        >
          {batch.batchId}
        </Anchor>
      </Table.Td>
      <Table.Td>
        <StateBadge state={batch.state} />
      </Table.Td>
      <Table.Td>
        <Stack gap={4}>
          <CountWords batch={batch} />
          <CountBar batch={batch} size="sm" />
        </Stack>
      </Table.Td>
      <Table.Td>
        <Text size="sm">{when(batch.createTime)}</Text>
      </Table.Td>
      <Table.Td>
        <Text size="sm">{took_s === null ? "" : duration(took_s)}</Text>
      </Table.Td>
    </Table.Tr>
  );
}
