import { useInfiniteQuery, useMutation } from "@connectrpc/connect-query";
import { Anchor, Button, Stack, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { queries } from "../../api/query";
import { when } from "../../components/format";
import { PAGING, PagedRows } from "../../components/rows";
import { ErrorNotice } from "../../components/states";
import {
  AdminService,
  type WebhookDelivery,
  WebhookDelivery_State,
} from "../../gen/image_categorizer/v1/admin_pb";
import { texts } from "../../texts/en";
import { StateBadge } from "./state";

const t = texts.access.webhooks;
const PAGE_SIZE = 50;
const REFRESH_MS = 5_000;
const STATES = {
  [WebhookDelivery_State.STATE_UNSPECIFIED]: "unknown",
  [WebhookDelivery_State.PENDING]: "pending",
  [WebhookDelivery_State.DELIVERED]: "delivered",
  [WebhookDelivery_State.FAILED]: "failed",
} as const;

/** What was sent to a webhook, with each attempt. */
export function Deliveries({ webhookId }: { webhookId: string }) {
  const deliveries = useInfiniteQuery(
    AdminService.method.listWebhookDeliveries,
    { webhookId, pageSize: PAGE_SIZE, pageToken: "" },
    { ...PAGING, refetchInterval: REFRESH_MS },
  );
  return (
    <Stack>
      <Title order={2} size="h4">
        {t.deliveries}
      </Title>
      <PagedRows
        query={deliveries}
        rowsOf={(page) => page.deliveries}
        keyOf={(row) => row.deliveryId}
        label={t.deliveries}
        empty={t.noDeliveries}
        columns={[
          { name: texts.access.time, cell: (row) => when(row.createTime) },
          { name: t.event, cell: (row) => row.eventType },
          { name: t.batch, cell: (row) => row.batchId && <BatchLink batchId={row.batchId} /> },
          { name: texts.access.state, cell: (row) => <StateBadge state={STATES[row.state]} /> },
          { name: t.attempts, cell: (row) => <Attempts delivery={row} /> },
          { name: t.next, cell: (row) => when(row.nextAttemptTime) },
          { name: texts.access.actions, cell: (row) => <Again delivery={row} /> },
        ]}
      />
    </Stack>
  );
}

function BatchLink({ batchId }: { batchId: string }) {
  return (
    <Anchor
      size="sm"
      renderRoot={(props) => <Link to="/ui/batches/$batchId" params={{ batchId }} {...props} />}
    >
      {batchId}
    </Anchor>
  );
}

function Attempts({ delivery }: { delivery: WebhookDelivery }) {
  return delivery.attempts.map((attempt) => {
    const status = attempt.statusCode ? `HTTP ${attempt.statusCode}` : t.noResponse;
    const at = when(attempt.startTime);
    return (
      <Text size="xs" key={`${at} ${attempt.durationMs}`}>
        {t.attempt(at, status, Math.round(attempt.durationMs))}
      </Text>
    );
  });
}

function Again({ delivery }: { delivery: WebhookDelivery }) {
  const again = useMutation(AdminService.method.redeliverWebhook, {
    onSettled: () => queries.invalidateQueries(),
  });
  if (delivery.state === WebhookDelivery_State.PENDING) return null;
  const { webhookId, deliveryId } = delivery;
  return (
    <Stack gap="xs">
      <Button
        size="xs"
        variant="default"
        loading={again.isPending}
        onClick={() => again.mutate({ webhookId, deliveryId })}
      >
        {t.again}
      </Button>
      {again.isError && <ErrorNotice error={again.error} />}
    </Stack>
  );
}
