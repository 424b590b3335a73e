import { Alert, Button, Code, CopyButton, Group, Stack, Text } from "@mantine/core";
import { texts } from "../texts/en";

/** A secret that is shown once. */
export function Secret({ title, secret, hint }: { title: string; secret: string; hint: string }) {
  return (
    <Alert color="brand" variant="light" title={title}>
      <Stack gap="xs">
        <Code block data-secret>
          {secret}
        </Code>
        <Group justify="space-between">
          <Text size="sm">{hint}</Text>
          <CopyButton value={secret}>
            {({ copied, copy }) => (
              <Button size="xs" variant="default" onClick={copy}>
                {copied ? texts.common.copied : texts.common.copy}
              </Button>
            )}
          </CopyButton>
        </Group>
      </Stack>
    </Alert>
  );
}
