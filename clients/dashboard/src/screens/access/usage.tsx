import { useQuery } from "@connectrpc/connect-query";
import { SegmentedControl, Stack } from "@mantine/core";
import { useState } from "react";
import { bytes, count, duration } from "../../components/format";
import { Rows } from "../../components/rows";
import { Answered, Empty } from "../../components/states";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import type { UsageRow } from "../../gen/image_categorizer/v1/usage_pb";
import { texts } from "../../texts/en";

const t = texts.access.usage;
const GROUPS = [
  { value: "day", label: t.day },
  { value: "key", label: t.key },
  { value: "model", label: t.model },
];

/** What the tenant has used in 30 days. */
export function UsageTable() {
  const [groupBy, setGroupBy] = useState("day");
  const usage = useQuery(AdminService.method.getUsage, { groupBy });
  return (
    <Stack>
      <SegmentedControl aria-label={t.by} data={GROUPS} value={groupBy} onChange={setGroupBy} />
      <Answered query={usage}>
        {({ rows, total }) =>
          rows.length === 0 ? (
            <Empty title={t.noUsage} />
          ) : (
            <Rows
              label={texts.access.tabs.usage}
              rows={total ? [...rows, total] : rows}
              keyOf={nameOf}
              columns={[
                { name: t[groupBy as "day" | "key" | "model"], cell: nameOf },
                { name: t.images, cell: (row) => count(Number(row.images)) },
                { name: t.cached, cell: (row) => count(Number(row.cachedImages)) },
                { name: t.failed, cell: (row) => count(Number(row.failedImages)) },
                { name: t.sent, cell: (row) => bytes(Number(row.bytes)) },
                { name: t.modelTime, cell: (row) => duration(row.modelMs / 1000) },
              ]}
            />
          )
        }
      </Answered>
    </Stack>
  );
}

function nameOf(row: UsageRow): string {
  return row.day || row.keyId || row.model || t.total;
}
