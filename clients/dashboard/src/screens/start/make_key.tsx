import { useMutation } from "@connectrpc/connect-query";
import { Alert, Button, Code, Group, Stack, Text, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { ErrorNotice } from "../../components/states";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import type { ApiKey } from "../../gen/image_categorizer/v1/key_pb";
import { texts } from "../../texts/en";

const t = texts.start.key;
const MAX_NAME_CHARACTERS = 128;

/** Makes a key for a program, and shows its secret once. */
export function MakeKey({
  apiKey,
  onMade,
}: {
  apiKey: ApiKey | null;
  onMade: (key: ApiKey) => void;
}) {
  const [name, setName] = useState<string>(t.nameDefault);
  const made = useMutation(AdminService.method.createApiKey, { onSuccess: onMade });
  if (apiKey) {
    return (
      <Alert color="brand" variant="light" title={`${t.label}: ${apiKey.name}`}>
        <Stack gap="xs">
          <Code block data-secret>
            {apiKey.secret}
          </Code>
          <Text size="sm">{t.shown}</Text>
        </Stack>
      </Alert>
    );
  }
  const submit = (event: FormEvent) => {
    event.preventDefault();
    made.mutate({ name: name.trim(), role: "classifier" });
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="sm">
        <Text size="sm">{t.hint}</Text>
        <Group align="flex-end" gap="sm">
          <TextInput
            label={t.name}
            value={name}
            maxLength={MAX_NAME_CHARACTERS}
            onChange={(event) => setName(event.currentTarget.value)}
          />
          <Button type="submit" loading={made.isPending} disabled={!name.trim()}>
            {t.make}
          </Button>
        </Group>
        {made.isError && <ErrorNotice error={made.error} />}
      </Stack>
    </form>
  );
}
