import { Tabs } from "@mantine/core";
import { Screen } from "../../components/screen";
import { texts } from "../../texts/en";
import { Agreement } from "./agreement";
import { Queue } from "./queue";
import { reviewRoute } from "./route";

export function Review() {
  const search = reviewRoute.useSearch();
  const navigate = reviewRoute.useNavigate();
  const open = (tab: string | null) =>
    navigate({ search: tab === "agreement" ? { tab } : {}, replace: true });
  return (
    <Screen title={texts.review.title}>
      <Tabs value={search.tab ?? "queue"} onChange={open} keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="queue">{texts.review.queue}</Tabs.Tab>
          <Tabs.Tab value="agreement">{texts.review.agreement}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="queue">
          <Queue />
        </Tabs.Panel>
        <Tabs.Panel value="agreement">
          <Agreement />
        </Tabs.Panel>
      </Tabs>
    </Screen>
  );
}
