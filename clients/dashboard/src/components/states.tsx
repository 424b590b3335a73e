import {
  Alert,
  Button,
  Center,
  Code,
  Group,
  Skeleton,
  Stack,
  Text,
  VisuallyHidden,
} from "@mantine/core";
import { IconAlertCircle } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { problemOf } from "../api/error";
import { texts } from "../texts/en";

/** An error: what happened, its reason, and the request that people name when they ask for help. */
export function ErrorNotice({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const problem = problemOf(error);
  return (
    <Alert color="red" variant="light" role="alert" icon={<IconAlertCircle aria-hidden />}>
      <Stack gap="xs">
        <Text size="sm">{problem.message}</Text>
        {problem.fields.map(({ field, message }) => (
          <Text size="sm" key={`${field} ${message}`}>
            <Code>{field}</Code> {message}
          </Text>
        ))}
        <Group gap="md">
          {problem.reason && (
            <Text size="xs">
              {texts.common.reason} <Code>{problem.reason}</Code>
            </Text>
          )}
          {problem.requestId && (
            <Text size="xs">
              {texts.common.requestId} <Code>{problem.requestId}</Code>
            </Text>
          )}
        </Group>
        {onRetry && (
          <Group>
            <Button size="xs" variant="default" onClick={onRetry}>
              {texts.common.retry}
            </Button>
          </Group>
        )}
      </Stack>
    </Alert>
  );
}

/** Stands where content will be. */
export function Loading({ rows = 3 }: { rows?: number }) {
  const widths = ["100%", "85%", "70%", "90%", "60%"];
  return (
    <Stack gap="sm" role="status">
      <VisuallyHidden>{texts.common.loading}</VisuallyHidden>
      {Array.from({ length: rows }, (_, row) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the rows are all alike
        <Skeleton key={row} height={24} width={widths[row % widths.length]} />
      ))}
    </Stack>
  );
}

/** Says that there is nothing, and how there can be something. */
export function Empty({
  icon,
  title,
  children,
}: {
  icon?: ReactNode;
  title: string;
  children?: ReactNode;
}) {
  return (
    <Center mih={220}>
      <Stack align="center" gap="xs" maw={440} ta="center">
        {icon}
        <Text fw={600}>{title}</Text>
        {children && (
          <Text component="div" c="dimmed" size="sm">
            {children}
          </Text>
        )}
      </Stack>
    </Center>
  );
}

type Answer<Data> = {
  data: Data | undefined;
  error: unknown;
  isPending: boolean;
  refetch: () => unknown;
};

/** Shows what a query has answered, or that it is loading, or its error. */
export function Answered<Data>({
  query,
  rows,
  children,
}: {
  query: Answer<Data>;
  rows?: number;
  children: (data: Data) => ReactNode;
}) {
  if (query.data !== undefined) return children(query.data);
  if (query.isPending) return <Loading {...(rows === undefined ? {} : { rows })} />;
  return <ErrorNotice error={query.error} onRetry={() => query.refetch()} />;
}
