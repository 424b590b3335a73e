import { createClient } from "@connectrpc/connect";
import {
  Anchor,
  Button,
  Center,
  Divider,
  Paper,
  PasswordInput,
  Stack,
  Text,
  Title,
} from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { changeCaller } from "../api/query";
import { forgetKey, storeKey } from "../api/session";
import { transport } from "../api/transport";
import { ErrorNotice } from "../components/states";
import { AdminService } from "../gen/image_categorizer/v1/admin_pb";
import { texts } from "../texts/en";

const client = createClient(AdminService, transport);

/** Whether the installation has an identity provider; the server writes it into the page. */
function hasProvider(): boolean {
  return document.querySelector<HTMLMetaElement>('meta[name="sign-in"]')?.content === "provider";
}

/** The page to sign in. */
export function SignIn() {
  const [key, setKey] = useState("");
  const signIn = useMutation({
    mutationFn: async (given: string) => {
      storeKey(given);
      try {
        return await client.getCaller({});
      } catch (error) {
        forgetKey();
        throw error;
      }
    },
    onSuccess: changeCaller,
  });
  const isWrong = key !== "" && !key.trim().startsWith("ic_");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (key.trim()) signIn.mutate(key.trim());
  };
  return (
    <Center mih="100dvh" p="md" component="main">
      <Paper withBorder p="xl" w="100%" maw={420} component="form" onSubmit={submit}>
        <Stack>
          <Title order={1} size="h3">
            {texts.common.product}
          </Title>
          <Text size="sm" c="dimmed">
            {texts.shell.signIn.hint}
          </Text>
          <PasswordInput
            label={texts.shell.signIn.label}
            placeholder={texts.shell.signIn.placeholder}
            description={texts.shell.signIn.kept}
            error={isWrong ? texts.shell.signIn.wrongForm : undefined}
            value={key}
            onChange={(event) => setKey(event.currentTarget.value)}
            autoComplete="off"
            spellCheck={false}
            data-autofocus
          />
          {signIn.isError && <ErrorNotice error={signIn.error} />}
          <Button type="submit" loading={signIn.isPending} disabled={!key.trim()}>
            {texts.shell.signIn.submit}
          </Button>
          {hasProvider() && (
            <>
              <Divider label={texts.shell.signIn.or} />
              <Button component="a" href="/auth/login" variant="default">
                {texts.shell.signIn.provider}
              </Button>
            </>
          )}
          <Anchor size="sm" href="/docs">
            {texts.shell.documentation}
          </Anchor>
        </Stack>
      </Paper>
    </Center>
  );
}
