import { useInfiniteQuery, useMutation } from "@connectrpc/connect-query";
import { Button, Group, Stack, Text, TextInput, Title } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { queries } from "../../api/query";
import { ConfirmButton } from "../../components/confirm_button";
import { when } from "../../components/format";
import { PAGING, PagedRows } from "../../components/rows";
import { ErrorNotice } from "../../components/states";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import type { LegalHold } from "../../gen/image_categorizer/v1/legal_hold_pb";
import { texts } from "../../texts/en";

const t = texts.access.subjects;
const PAGE_SIZE = 50;
const onSettled = () => queries.invalidateQueries();

/** Legal holds: what retention and erasures leave alone. */
export function Holds() {
  const holds = useInfiniteQuery(
    AdminService.method.listLegalHolds,
    { pageSize: PAGE_SIZE, pageToken: "" },
    PAGING,
  );
  return (
    <Stack>
      <Title order={2} size="h4">
        {t.holds}
      </Title>
      <NewHold />
      <PagedRows
        query={holds}
        rowsOf={(page) => page.holds}
        keyOf={(hold) => hold.holdId}
        label={t.holds}
        empty={t.noHolds}
        columns={[
          { name: texts.access.created, cell: (hold) => when(hold.createTime) },
          { name: t.hold, cell: targetOf },
          { name: t.reference, cell: (hold) => hold.reference },
          {
            name: texts.access.actions,
            cell: (hold) => (hold.endTime ? when(hold.endTime) : <Release hold={hold} />),
          },
        ]}
      />
    </Stack>
  );
}

function NewHold() {
  const [subjectId, setSubjectId] = useState("");
  const [reference, setReference] = useState("");
  const made = useMutation(AdminService.method.createLegalHold, { onSettled });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    made.mutate({ target: { case: "subjectId", value: subjectId.trim() }, reference });
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="xs">
        <Text size="sm" c="dimmed">
          {t.holdHint}
        </Text>
        <Group align="flex-end">
          <TextInput
            label={t.subject}
            value={subjectId}
            onChange={(event) => setSubjectId(event.currentTarget.value)}
          />
          <TextInput
            label={t.reference}
            description={t.referenceHint}
            value={reference}
            onChange={(event) => setReference(event.currentTarget.value)}
          />
          <Button type="submit" loading={made.isPending} disabled={!subjectId.trim()}>
            {t.hold}
          </Button>
        </Group>
        {made.isError && <ErrorNotice error={made.error} />}
      </Stack>
    </form>
  );
}

function Release({ hold: { holdId } }: { hold: LegalHold }) {
  const release = useMutation(AdminService.method.releaseLegalHold, { onSettled });
  return (
    <ConfirmButton
      label={t.release}
      title={t.releaseTitle}
      change={release}
      confirm={() => release.mutateAsync({ holdId })}
    >
      {t.releaseText}
    </ConfirmButton>
  );
}

function targetOf(hold: LegalHold): string {
  if (hold.wholeTenant) return t.holdsOf.tenant;
  if (hold.imageId) return `${t.holdsOf.image} ${hold.imageId}`;
  return `${t.holdsOf.subject} ${hold.subjectKey.slice(0, 12)}…`;
}
