import { useQuery } from "@connectrpc/connect-query";
import { Stack, Text, Timeline } from "@mantine/core";
import { useMay } from "../../api/caller";
import { duration, secondsBetween, when } from "../../components/format";
import {
  AdminService,
  type WebhookDelivery,
  WebhookDelivery_State,
} from "../../gen/image_categorizer/v1/admin_pb";
import { type Batch, Batch_State } from "../../gen/image_categorizer/v1/batch_pb";
import { texts } from "../../texts/en";
import { stateName } from "./state";
import { hasEnded } from "./watch";

/** The webhook that signs what is sent to the address of a batch. */
const SIGNING_WEBHOOK = "default";
const REFRESH_MS = 3000;

/** What happened to a batch, and each attempt to notify of its end. */
export function BatchTimeline({ batch }: { batch: Batch }) {
  const words = texts.batches.timeline;
  const waited_s = secondsBetween(batch.createTime, batch.startTime);
  const took_s = secondsBetween(batch.startTime, batch.endTime);
  const isEnded = hasEnded(batch);
  const reached = isEnded ? 3 : batch.startTime ? 1 : 0;
  return (
    <Timeline active={reached} bulletSize={16} lineWidth={2}>
      <Timeline.Item title={words.created}>
        <Text size="sm" c="dimmed">
          {when(batch.createTime)}
        </Text>
      </Timeline.Item>
      <Timeline.Item title={words.started}>
        {batch.startTime && (
          <Text size="sm" c="dimmed">
            {when(batch.startTime)}
            {waited_s !== null && `, ${words.waited(duration(waited_s))}`}
          </Text>
        )}
        {batch.state === Batch_State.RUNNING && <Running batch={batch} />}
      </Timeline.Item>
      <Timeline.Item title={isEnded ? stateName(batch.state) : words.ended}>
        {batch.endTime && (
          <Text size="sm" c="dimmed">
            {when(batch.endTime)}
            {took_s !== null && `, ${words.took(duration(took_s))}`}
          </Text>
        )}
        {batch.stateMessage && <Text size="sm">{batch.stateMessage}</Text>}
      </Timeline.Item>
      {batch.webhookUrl && (
        <Timeline.Item
          title={words.notify(batch.webhookUrl)}
          styles={{ itemTitle: { overflowWrap: "anywhere" } }}
        >
          <Notified batch={batch} />
        </Timeline.Item>
      )}
    </Timeline>
  );
}

function Running({ batch }: { batch: Batch }) {
  const left = batch.remainingTime ? duration(Number(batch.remainingTime.seconds)) : "";
  return <Text size="sm">{texts.batches.timeline.running(batch.itemsPerS.toFixed(1), left)}</Text>;
}

function Notified({ batch }: { batch: Batch }) {
  const isOperator = useMay("operator");
  const isEnded = hasEnded(batch);
  const found = useQuery(
    AdminService.method.listWebhookDeliveries,
    { webhookId: SIGNING_WEBHOOK, batchId: batch.batchId },
    {
      enabled: isOperator && isEnded,
      refetchInterval: ({ state: { data } }) =>
        data?.deliveries.every(({ state }) => state !== WebhookDelivery_State.PENDING)
          ? false
          : REFRESH_MS,
    },
  );
  if (!isOperator) return <Text size="sm">{texts.batches.timeline.hidden}</Text>;
  return (found.data?.deliveries ?? []).map((delivery) => (
    <Delivery key={delivery.deliveryId} delivery={delivery} />
  ));
}

function Delivery({ delivery }: { delivery: WebhookDelivery }) {
  const words = texts.batches.timeline;
  const name = WebhookDelivery_State[delivery.state] as keyof typeof words.delivery;
  return (
    <Stack gap={2}>
      <Text size="sm">{words.delivery[name]}</Text>
      {delivery.attempts.map((attempt) => (
        <Text
          size="sm"
          c="dimmed"
          key={`${attempt.startTime?.seconds}.${attempt.startTime?.nanos}`}
        >
          {words.attempt(
            when(attempt.startTime),
            attempt.statusCode ? words.http(attempt.statusCode) : words.noAnswer,
            attempt.durationMs.toFixed(0),
          )}
        </Text>
      ))}
    </Stack>
  );
}
