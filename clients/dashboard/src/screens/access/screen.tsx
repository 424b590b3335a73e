import { Tabs } from "@mantine/core";
import { lazy, type ReactNode, Suspense } from "react";
import { includes, type Role, useCaller } from "../../api/caller";
import { Screen } from "../../components/screen";
import { Loading } from "../../components/states";
import { texts } from "../../texts/en";
import { accessRoute, type Tab } from "./route";

const Keys = lazy(async () => ({ default: (await import("./keys")).Keys }));
const Webhooks = lazy(async () => ({ default: (await import("./webhooks")).Webhooks }));
const Audit = lazy(async () => ({ default: (await import("./audit")).Audit }));
const Subjects = lazy(async () => ({ default: (await import("./subjects")).Subjects }));
const Retention = lazy(async () => ({ default: (await import("./retention")).RetentionRules }));
const Usage = lazy(async () => ({ default: (await import("./usage")).UsageTable }));
const Tenants = lazy(async () => ({ default: (await import("./tenants")).Tenants }));
const Roles = lazy(async () => ({ default: (await import("./roles")).Roles }));

const PANELS: readonly { tab: Tab; role: Role; panel: ReactNode }[] = [
  { tab: "keys", role: "admin", panel: <Keys /> },
  { tab: "webhooks", role: "operator", panel: <Webhooks /> },
  { tab: "audit", role: "admin", panel: <Audit /> },
  { tab: "subjects", role: "admin", panel: <Subjects /> },
  { tab: "retention", role: "admin", panel: <Retention /> },
  { tab: "usage", role: "operator", panel: <Usage /> },
  { tab: "tenants", role: "platform", panel: <Tenants /> },
  { tab: "roles", role: "operator", panel: <Roles /> },
];

/** Who may do what, who did what, and what must be forgotten. */
export function Access() {
  const { role } = useCaller();
  const search = accessRoute.useSearch();
  const navigate = accessRoute.useNavigate();
  const panels = PANELS.filter((panel) => includes(role, panel.role));
  const shown = panels.find(({ tab }) => tab === search.tab) ?? panels[0];
  return (
    <Screen title={texts.access.title}>
      <Tabs
        value={shown?.tab ?? null}
        onChange={(tab) => navigate({ search: { tab: tab as Tab } })}
        keepMounted={false}
      >
        <Tabs.List mb="md" aria-label={texts.access.title}>
          {panels.map(({ tab }) => (
            <Tabs.Tab key={tab} value={tab}>
              {texts.access.tabs[tab]}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {panels.map(({ tab, panel }) => (
          <Tabs.Panel key={tab} value={tab}>
            <Suspense fallback={<Loading />}>{panel}</Suspense>
          </Tabs.Panel>
        ))}
      </Tabs>
    </Screen>
  );
}
