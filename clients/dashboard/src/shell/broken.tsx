import { Anchor, Button, Container, Stack, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { Empty, ErrorNotice } from "../components/states";
import { texts } from "../texts/en";

/** Whether a part of the page is gone because the server has a newer one. */
function isOfOldRelease(error: unknown): boolean {
  return (
    error instanceof TypeError && /dynamically imported module|module script/.test(error.message)
  );
}

/** Stands where a screen has failed. */
export function Broken({ error, reset }: { error: unknown; reset: () => void }) {
  if (isOfOldRelease(error)) {
    return (
      <Container size="xs" py="xl">
        <Stack>
          <Text>{texts.common.newRelease}</Text>
          <Button onClick={() => window.location.reload()}>{texts.common.reload}</Button>
        </Stack>
      </Container>
    );
  }
  return (
    <Container size="sm" py="xl">
      <ErrorNotice error={error} onRetry={reset} />
    </Container>
  );
}

/** Stands where the address leads nowhere. */
export function NotFound() {
  return (
    <Empty title={texts.common.noSuchPage}>
      <Anchor renderRoot={(props) => <Link to="/ui/start" {...props} />}>
        {texts.common.toStart}
      </Anchor>
    </Empty>
  );
}
