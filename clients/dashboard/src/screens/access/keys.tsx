import { useInfiniteQuery, useMutation } from "@connectrpc/connect-query";
import { Button, Code, Group, SegmentedControl, Stack } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useState } from "react";
import { queries } from "../../api/query";
import { ConfirmButton } from "../../components/confirm_button";
import { when } from "../../components/format";
import { PAGING, PagedRows } from "../../components/rows";
import { Secret } from "../../components/secret";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import { type ApiKey, ApiKey_State } from "../../gen/image_categorizer/v1/key_pb";
import { texts } from "../../texts/en";
import { NewKey } from "./new_key";
import { StateBadge } from "./state";

const t = texts.access.keys;
const PAGE_SIZE = 100;
const OVERLAP_S = 3600n;
const STATES = {
  [ApiKey_State.STATE_UNSPECIFIED]: "unknown",
  [ApiKey_State.ACTIVE]: "active",
  [ApiKey_State.EXPIRED]: "expired",
  [ApiKey_State.REVOKED]: "revoked",
} as const;
const SHOWN = [
  { value: String(ApiKey_State.ACTIVE), label: texts.access.states.active },
  { value: String(ApiKey_State.STATE_UNSPECIFIED), label: t.all },
];

/** The API keys of the tenant. */
export function Keys() {
  const [state, setState] = useState(String(ApiKey_State.ACTIVE));
  const [isOpen, { open, close }] = useDisclosure();
  const [made, setMade] = useState<ApiKey | null>(null);
  const keys = useInfiniteQuery(
    AdminService.method.listApiKeys,
    { pageSize: PAGE_SIZE, pageToken: "", state: Number(state) as ApiKey_State },
    PAGING,
  );
  const show = (key: ApiKey) => {
    setMade(key);
    close();
  };
  return (
    <Stack>
      <Group justify="space-between">
        <SegmentedControl aria-label={t.show} data={SHOWN} value={state} onChange={setState} />
        <Button onClick={open}>{t.make}</Button>
      </Group>
      <NewKey isOpen={isOpen} onClose={close} onMade={show} />
      {made && <Secret title={made.name} secret={made.secret} hint={t.shownOnce} />}
      <PagedRows
        query={keys}
        rowsOf={(page) => page.keys}
        keyOf={(key) => key.keyId}
        label={texts.access.tabs.keys}
        empty={t.noKeys}
        columns={[
          { name: t.name, cell: (key) => key.name },
          { name: t.role, cell: (key) => key.role },
          { name: t.scopes, cell: (key) => key.scopes.join(", ") || t.allScopes },
          { name: t.prefix, cell: (key) => <Code>{key.prefix}</Code> },
          {
            name: texts.access.state,
            cell: (key) => <StateBadge state={STATES[key.state]} />,
          },
          { name: t.lastUse, cell: (key) => when(key.lastUseTime) || t.never },
          { name: t.expires, cell: (key) => when(key.expireTime) || t.never },
          {
            name: texts.access.actions,
            cell: (key) =>
              key.state === ApiKey_State.ACTIVE && <Actions apiKey={key} onRotated={setMade} />,
          },
        ]}
      />
    </Stack>
  );
}

function Actions({ apiKey, onRotated }: { apiKey: ApiKey; onRotated: (key: ApiKey) => void }) {
  const onSettled = () => queries.invalidateQueries();
  const rotate = useMutation(AdminService.method.rotateApiKey, { onSettled });
  const revoke = useMutation(AdminService.method.revokeApiKey, { onSettled });
  const { keyId, name } = apiKey;
  return (
    <Group gap="xs" wrap="nowrap">
      <ConfirmButton
        label={t.rotate}
        title={t.rotateTitle(name)}
        change={rotate}
        confirm={async () =>
          onRotated(await rotate.mutateAsync({ keyId, overlap: { seconds: OVERLAP_S } }))
        }
      >
        {t.rotateText}
      </ConfirmButton>
      <ConfirmButton
        label={t.revoke}
        title={t.revokeTitle(name)}
        change={revoke}
        confirm={() => revoke.mutateAsync({ keyId })}
      >
        {t.revokeText}
      </ConfirmButton>
    </Group>
  );
}
