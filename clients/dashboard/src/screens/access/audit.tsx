import { useInfiniteQuery } from "@connectrpc/connect-query";
import { Button, Code, Group, Select, Spoiler, Stack, Text, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { useMutation } from "@tanstack/react-query";
import { download } from "../../api/rest";
import { when } from "../../components/format";
import { PAGING, PagedRows } from "../../components/rows";
import { ErrorNotice } from "../../components/states";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import { AuditEvent_Outcome } from "../../gen/image_categorizer/v1/audit_pb";
import { texts } from "../../texts/en";
import { type AccessSearch, accessRoute } from "./route";

const t = texts.access.audit;
const PAGE_SIZE = 100;
const TYPING_MS = 400;
const OUTCOMES = [
  { value: "OK", label: t.ok },
  { value: "DENIED", label: t.denied },
];
const FILTERS = ["actor", "action", "resource"] as const;

/** Who did what, and what was refused. */
export function Audit() {
  const { actor = "", action = "", resource = "", outcome } = accessRoute.useSearch();
  const events = useInfiniteQuery(
    AdminService.method.listAuditEvents,
    {
      pageSize: PAGE_SIZE,
      pageToken: "",
      actorId: actor,
      action,
      resource,
      outcome: outcome ? AuditEvent_Outcome[outcome] : AuditEvent_Outcome.OUTCOME_UNSPECIFIED,
    },
    PAGING,
  );
  return (
    <Stack>
      <Filters />
      <Text size="sm" c="dimmed">
        {t.verify}
      </Text>
      <PagedRows
        query={events}
        rowsOf={(page) => page.events}
        keyOf={(event) => String(event.seq)}
        label={texts.access.tabs.audit}
        empty={t.noEvents}
        columns={[
          { name: t.number, cell: (event) => String(event.seq) },
          { name: texts.access.time, cell: (event) => when(event.time) },
          { name: t.actor, cell: (event) => event.actorId },
          { name: t.action, cell: (event) => event.action },
          { name: t.resource, cell: (event) => event.resource },
          {
            name: t.outcome,
            cell: ({ outcome: is }) => (is === AuditEvent_Outcome.DENIED ? t.denied : t.ok),
          },
          { name: t.address, cell: (event) => event.address },
          {
            name: t.detail,
            wraps: true,
            cell: ({ detail }) =>
              detail &&
              Object.keys(detail).length > 0 && (
                <Spoiler maxHeight={40} showLabel={t.detail} hideLabel={texts.common.close}>
                  <Code style={{ overflowWrap: "anywhere" }}>{JSON.stringify(detail)}</Code>
                </Spoiler>
              ),
          },
        ]}
      />
    </Stack>
  );
}

function Filters() {
  const search = accessRoute.useSearch();
  const navigate = accessRoute.useNavigate();
  const { actor, action, resource, outcome } = search;
  const set = (change: Partial<AccessSearch>) =>
    navigate({ search: (old) => ({ ...old, ...change }), replace: true });
  const type = useDebouncedCallback(set, TYPING_MS);
  const exported = useMutation({
    mutationFn: () => {
      const given = { actor_id: actor, action, resource, outcome };
      const named = Object.entries(given).filter((entry): entry is [string, string] => !!entry[1]);
      const query = new URLSearchParams([["format", "csv"], ...named]);
      return download(`/v1/audit:export?${query}`, "audit.csv");
    },
  });
  return (
    <Stack gap="xs">
      <Group align="flex-end">
        {FILTERS.map((name) => (
          <TextInput
            key={name}
            label={t[name]}
            defaultValue={search[name] ?? ""}
            onChange={(event) => type({ [name]: event.currentTarget.value.trim() })}
          />
        ))}
        <Select
          label={t.outcome}
          placeholder={t.any}
          data={OUTCOMES}
          value={outcome ?? null}
          clearable
          onChange={(value) =>
            navigate({
              search: ({ outcome: _, ...old }) =>
                value === "OK" || value === "DENIED" ? { ...old, outcome: value } : old,
              replace: true,
            })
          }
        />
        <Button variant="default" loading={exported.isPending} onClick={() => exported.mutate()}>
          {t.export}
        </Button>
      </Group>
      {exported.isError && <ErrorNotice error={exported.error} />}
    </Stack>
  );
}
