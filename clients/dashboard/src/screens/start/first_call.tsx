import { useQuery } from "@connectrpc/connect-query";
import { Group, Loader, Stack, Text } from "@mantine/core";
import { IconCircleCheck } from "@tabler/icons-react";
import { useEffect, useEffectEvent } from "react";
import { CodeTabs } from "../../components/code_tabs";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import type { ApiKey } from "../../gen/image_categorizer/v1/key_pb";
import { texts } from "../../texts/en";

const t = texts.start.call;
const POLL_MS = 2_000;

/** Shows the first call of a program, and says when it has come. */
export function FirstCall({ apiKey, onCalled }: { apiKey: ApiKey | null; onCalled: () => void }) {
  return (
    <Stack gap="sm">
      <Text size="sm">{apiKey ? t.hint : t.pending}</Text>
      <CodeTabs
        forms={["curl", "python", "javascript"]}
        call={{
          baseUrl: window.location.origin,
          key: apiKey?.secret ?? null,
          source: { kind: "file", name: "cat.jpg" },
          options: { roll_up: true },
        }}
      />
      {apiKey && <Called keyId={apiKey.keyId} onCalled={onCalled} />}
    </Stack>
  );
}

function Called({ keyId, onCalled }: { keyId: string; onCalled: () => void }) {
  const key = useQuery(
    AdminService.method.getApiKey,
    { keyId },
    { refetchInterval: ({ state }) => (state.data?.lastUseTime ? false : POLL_MS) },
  );
  const isCalled = Boolean(key.data?.lastUseTime);
  const tell = useEffectEvent(onCalled);
  useEffect(() => {
    if (isCalled) tell();
  }, [isCalled]);
  return (
    <Group gap="xs" aria-live="polite">
      {isCalled ? <IconCircleCheck size={18} aria-hidden /> : <Loader size={16} aria-hidden />}
      <Text size="sm">{isCalled ? t.seen : t.waiting}</Text>
    </Group>
  );
}
