import { useInfiniteQuery, useMutation } from "@connectrpc/connect-query";
import { Anchor, Button, Group, Stack, Text, TextInput } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { queries } from "../../api/query";
import { ConfirmButton } from "../../components/confirm_button";
import { when } from "../../components/format";
import { PAGING, PagedRows } from "../../components/rows";
import { Secret } from "../../components/secret";
import { ErrorNotice } from "../../components/states";
import { AdminService, type Webhook, Webhook_State } from "../../gen/image_categorizer/v1/admin_pb";
import { texts } from "../../texts/en";
import { Deliveries } from "./deliveries";
import { accessRoute } from "./route";
import { StateBadge } from "./state";

const t = texts.access.webhooks;
const PAGE_SIZE = 100;
const STATES = {
  [Webhook_State.STATE_UNSPECIFIED]: "unknown",
  [Webhook_State.ENABLED]: "enabled",
  [Webhook_State.DISABLED]: "disabled",
  [Webhook_State.GONE]: "gone",
} as const;
const onSettled = () => queries.invalidateQueries();

/** The webhooks of the tenant, and what was sent to the chosen one. */
export function Webhooks() {
  const { webhook } = accessRoute.useSearch();
  const [shown, setShown] = useState<Webhook | null>(null);
  const webhooks = useInfiniteQuery(
    AdminService.method.listWebhooks,
    { pageSize: PAGE_SIZE, pageToken: "" },
    PAGING,
  );
  return (
    <Stack>
      <Add onAdded={setShown} />
      {shown && <Secret title={shown.url} secret={shown.secret} hint={t.secretHint} />}
      <PagedRows
        query={webhooks}
        rowsOf={(page) => page.webhooks}
        keyOf={(row) => row.webhookId}
        label={texts.access.tabs.webhooks}
        empty={t.noWebhooks}
        columns={[
          {
            name: t.url,
            cell: (row) => (
              <Anchor
                size="sm"
                renderRoot={(props) => (
                  <Link
                    to="/ui/access"
                    search={{ tab: "webhooks", webhook: row.webhookId }}
                    {...props}
                  />
                )}
              >
                {row.url || t.ofBatches}
              </Anchor>
            ),
          },
          { name: texts.access.state, cell: (row) => <StateBadge state={STATES[row.state]} /> },
          { name: texts.access.created, cell: (row) => when(row.createTime) },
          {
            name: texts.access.actions,
            cell: (row) => <Actions webhook={row} onRotated={setShown} />,
          },
        ]}
      />
      {webhook && <Deliveries webhookId={webhook} />}
    </Stack>
  );
}

function Add({ onAdded }: { onAdded: (webhook: Webhook) => void }) {
  const [url, setUrl] = useState("");
  const added = useMutation(AdminService.method.createWebhook, {
    onSuccess: async (webhook) => {
      onAdded(webhook);
      setUrl("");
      await queries.invalidateQueries();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    added.mutate({ url: url.trim() });
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="xs">
        <Group align="flex-end">
          <TextInput
            flex={1}
            type="url"
            label={t.url}
            description={t.addHint}
            value={url}
            onChange={(event) => setUrl(event.currentTarget.value)}
          />
          <Button type="submit" loading={added.isPending} disabled={!url.trim()}>
            {t.add}
          </Button>
        </Group>
        {added.isError && <ErrorNotice error={added.error} />}
      </Stack>
    </form>
  );
}

function Actions({
  webhook,
  onRotated,
}: {
  webhook: Webhook;
  onRotated: (webhook: Webhook) => void;
}) {
  const update = useMutation(AdminService.method.updateWebhook, { onSettled });
  const rotate = useMutation(AdminService.method.rotateWebhookSecret, { onSettled });
  const remove = useMutation(AdminService.method.deleteWebhook, { onSettled });
  const { webhookId, state, url } = webhook;
  const isEnabled = state === Webhook_State.ENABLED;
  return (
    <Stack gap="xs">
      <Group gap="xs" wrap="nowrap">
        {url && (
          <Button
            size="xs"
            variant="default"
            loading={update.isPending}
            onClick={() => update.mutate({ webhookId, enabled: !isEnabled })}
          >
            {isEnabled ? t.disable : t.enable}
          </Button>
        )}
        <ConfirmButton
          label={t.rotate}
          title={t.rotateTitle}
          change={rotate}
          confirm={async () => onRotated(await rotate.mutateAsync({ webhookId }))}
        >
          {t.rotateText}
        </ConfirmButton>
        {url && (
          <ConfirmButton
            label={t.remove}
            title={t.removeTitle}
            change={remove}
            confirm={() => remove.mutateAsync({ webhookId })}
          >
            <Text size="sm">{t.removeText}</Text>
          </ConfirmButton>
        )}
      </Group>
      {update.isError && <ErrorNotice error={update.error} />}
    </Stack>
  );
}
