import { createClient } from "@connectrpc/connect";
import { Button, Code, Group, List, Stack, Text } from "@mantine/core";
import { IconCircleCheck, IconCircleX, IconShieldCheck } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";
import { transport } from "../api/transport";
import { ImageService } from "../gen/image_categorizer/v1/image_pb";
import { texts } from "../texts/en";
import { ErrorNotice } from "./states";

const client = createClient(ImageService, transport);

/**
 * Asks for the receipt of a result and verifies it.
 *
 * @param resultId of a stored image's result; or the id of a batch, a dot and the number of one of its items.
 */
export function ReceiptCheck({ resultId }: { resultId: string }) {
  const check = useMutation({
    mutationFn: async () => {
      const { receipt, keyId } = await client.getReceipt({ resultId });
      return { keyId, verified: await client.verifyResult({ receipt }) };
    },
  });
  const words = texts.library.receipt;
  return (
    <Stack gap="xs">
      <Group>
        <Button
          size="xs"
          variant="default"
          leftSection={<IconShieldCheck size={16} aria-hidden />}
          loading={check.isPending}
          onClick={() => check.mutate()}
        >
          {words.verify}
        </Button>
      </Group>
      {check.isError && <ErrorNotice error={check.error} />}
      {check.data && (
        <Stack gap={4} role="status">
          <Group gap="xs" wrap="nowrap">
            {check.data.verified.valid ? (
              <IconCircleCheck size={18} color="var(--mantine-color-brand-6)" aria-hidden />
            ) : (
              <IconCircleX size={18} color="var(--mantine-color-error)" aria-hidden />
            )}
            <Text size="sm">{check.data.verified.valid ? words.valid : words.invalid}</Text>
          </Group>
          {check.data.verified.problems.length > 0 && (
            <List size="sm">
              {check.data.verified.problems.map((problem) => (
                <List.Item key={problem}>{problem}</List.Item>
              ))}
            </List>
          )}
          <Text size="xs" c="dimmed">
            {words.key} <Code>{check.data.keyId}</Code>
          </Text>
        </Stack>
      )}
    </Stack>
  );
}
