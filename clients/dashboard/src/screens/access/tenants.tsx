import { useInfiniteQuery, useMutation } from "@connectrpc/connect-query";
import { Button, Group, Stack, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { queries } from "../../api/query";
import { ConfirmButton } from "../../components/confirm_button";
import { when } from "../../components/format";
import { PAGING, PagedRows } from "../../components/rows";
import { ErrorNotice } from "../../components/states";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import { type Tenant, Tenant_State } from "../../gen/image_categorizer/v1/tenant_pb";
import { texts } from "../../texts/en";
import { StateBadge } from "./state";

const t = texts.access.tenants;
const PAGE_SIZE = 100;
const STATES = {
  [Tenant_State.STATE_UNSPECIFIED]: "unknown",
  [Tenant_State.ACTIVE]: "active",
  [Tenant_State.SUSPENDED]: "suspended",
  [Tenant_State.DELETING]: "deleting",
} as const;
const onSettled = () => queries.invalidateQueries();

/** The tenants of the installation. */
export function Tenants() {
  const tenants = useInfiniteQuery(
    AdminService.method.listTenants,
    { pageSize: PAGE_SIZE, pageToken: "" },
    PAGING,
  );
  return (
    <Stack>
      <NewTenant />
      <PagedRows
        query={tenants}
        rowsOf={(page) => page.tenants}
        keyOf={(tenant) => tenant.tenantId}
        label={texts.access.tabs.tenants}
        empty=""
        columns={[
          { name: t.tenant, cell: (tenant) => tenant.tenantId },
          { name: t.name, cell: (tenant) => tenant.displayName },
          {
            name: texts.access.state,
            cell: (tenant) => <StateBadge state={STATES[tenant.state]} />,
          },
          { name: texts.access.created, cell: (tenant) => when(tenant.createTime) },
          { name: t.limits, cell: limitsOf },
          { name: texts.access.actions, cell: (tenant) => <Actions tenant={tenant} /> },
        ]}
      />
    </Stack>
  );
}

function NewTenant() {
  const [tenantId, setTenantId] = useState("");
  const made = useMutation(AdminService.method.createTenant, { onSettled });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    made.mutate({ tenantId: tenantId.trim() });
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="xs">
        <Group align="flex-end">
          <TextInput
            label={t.tenant}
            value={tenantId}
            onChange={(event) => setTenantId(event.currentTarget.value)}
          />
          <Button type="submit" loading={made.isPending} disabled={!tenantId.trim()}>
            {t.make}
          </Button>
        </Group>
        {made.isError && <ErrorNotice error={made.error} />}
      </Stack>
    </form>
  );
}

function Actions({ tenant: { tenantId, state } }: { tenant: Tenant }) {
  const suspend = useMutation(AdminService.method.suspendTenant, { onSettled });
  const resume = useMutation(AdminService.method.resumeTenant, { onSettled });
  if (state === Tenant_State.SUSPENDED) {
    return (
      <Button
        size="xs"
        variant="default"
        loading={resume.isPending}
        onClick={() => resume.mutate({ tenantId })}
      >
        {t.resume}
      </Button>
    );
  }
  return (
    <ConfirmButton
      label={t.suspend}
      title={t.suspendTitle(tenantId)}
      change={suspend}
      confirm={() => suspend.mutateAsync({ tenantId })}
    >
      {t.suspendText}
    </ConfirmButton>
  );
}

function limitsOf({ limits }: Tenant): string {
  const set = Object.entries(limits ?? {}).filter(
    ([name, value]) => !name.startsWith("$") && value !== undefined,
  );
  return set.map(([name, value]) => `${name} ${value}`).join(", ") || t.defaults;
}
