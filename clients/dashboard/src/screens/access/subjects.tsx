import { useInfiniteQuery, useMutation } from "@connectrpc/connect-query";
import { Button, Code, Group, Stack, Text, TextInput } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation as useTask } from "@tanstack/react-query";
import { useState } from "react";
import { queries } from "../../api/query";
import { download, offer } from "../../api/rest";
import { ConfirmButton } from "../../components/confirm_button";
import { when } from "../../components/format";
import { PAGING, PagedRows } from "../../components/rows";
import { ErrorNotice } from "../../components/states";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import { type Erasure, Erasure_State } from "../../gen/image_categorizer/v1/subject_pb";
import { texts } from "../../texts/en";
import { Holds } from "./holds";
import { StateBadge } from "./state";

const t = texts.access.subjects;
const PAGE_SIZE = 50;
const REFRESH_MS = 2_000;

/** What is stored about a person: export and erasure, and what must be kept. */
export function Subjects() {
  const erasures = useInfiniteQuery(
    AdminService.method.listErasures,
    { pageSize: PAGE_SIZE, pageToken: "" },
    {
      ...PAGING,
      refetchInterval: ({ state }) =>
        state.data?.pages.some((page) => page.erasures.some(isRunning)) ? REFRESH_MS : false,
    },
  );
  return (
    <Stack gap="xl">
      <One />
      <PagedRows
        query={erasures}
        rowsOf={(page) => page.erasures}
        keyOf={(erasure) => erasure.erasureId}
        label={texts.access.tabs.subjects}
        empty={t.noErasures}
        columns={[
          { name: texts.access.time, cell: (erasure) => when(erasure.createTime) },
          { name: t.key, cell: (erasure) => <Code>{erasure.subjectKey.slice(0, 12)}…</Code> },
          {
            name: texts.access.state,
            cell: (erasure) => <StateBadge state={isRunning(erasure) ? "running" : "done"} />,
          },
          {
            name: t.removed,
            wraps: true,
            cell: (erasure) => <Text size="xs">{removedBy(erasure)}</Text>,
          },
          { name: t.certificate, cell: (erasure) => <Certificate erasure={erasure} /> },
        ]}
      />
      <Holds />
    </Stack>
  );
}

function One() {
  const [subjectId, setSubjectId] = useState("");
  const onSettled = () => queries.invalidateQueries();
  const erase = useMutation(AdminService.method.eraseSubject, { onSettled });
  const allow = useMutation(AdminService.method.allowSubject, {
    onSettled,
    onSuccess: () => notifications.show({ message: t.allowed }),
  });
  const exported = useTask({
    mutationFn: () =>
      download(`/v1/subjects/${encodeURIComponent(subjectId)}:export`, "subject.zip", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}",
      }),
  });
  const error = allow.error ?? exported.error;
  return (
    <Stack gap="xs">
      <Group align="flex-end">
        <TextInput
          label={t.subject}
          description={t.subjectHint}
          value={subjectId}
          onChange={(event) => setSubjectId(event.currentTarget.value)}
        />
        {subjectId && (
          <>
            <Button
              variant="default"
              loading={exported.isPending}
              onClick={() => exported.mutate()}
            >
              {t.export}
            </Button>
            <ConfirmButton
              size="sm"
              label={t.erase}
              title={t.eraseTitle}
              change={erase}
              confirm={async () => {
                await erase.mutateAsync({ subjectId });
                notifications.show({ message: t.started });
              }}
            >
              {t.eraseText}
            </ConfirmButton>
            <Button
              variant="default"
              loading={allow.isPending}
              onClick={() => allow.mutate({ subjectId })}
            >
              {t.allow}
            </Button>
          </>
        )}
      </Group>
      {error && <ErrorNotice error={error} />}
    </Stack>
  );
}

function Certificate({ erasure }: { erasure: Erasure }) {
  if (!erasure.certificate) return null;
  const content = new Blob([erasure.certificate], { type: "application/json" });
  return (
    <Button size="xs" variant="default" onClick={() => offer(content, `${erasure.erasureId}.json`)}>
      {t.certificate}
    </Button>
  );
}

function isRunning(erasure: Erasure): boolean {
  return erasure.state === Erasure_State.RUNNING;
}

function removedBy(erasure: Erasure): string {
  const removed = erasure.removed.filter(({ count }) => count > 0n);
  return removed.map(({ place, count }) => `${place} ${count}`).join(", ") || t.nothing;
}
