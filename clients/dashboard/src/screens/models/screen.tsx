import { useQuery } from "@connectrpc/connect-query";
import { Tabs } from "@mantine/core";
import { IconCpu } from "@tabler/icons-react";
import { Screen } from "../../components/screen";
import { Answered, Empty } from "../../components/states";
import { MetadataService } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import { Evaluation } from "./evaluation";
import { modelsRoute } from "./route";
import { Versions } from "./versions";

const REFRESH_MS = 5_000;

export function Models() {
  const search = modelsRoute.useSearch();
  const navigate = modelsRoute.useNavigate();
  const models = useQuery(
    MetadataService.method.listModels,
    { pageSize: 1000 },
    { refetchInterval: REFRESH_MS },
  );
  const open = (tab: string | null) =>
    navigate({ search: tab === "evaluation" ? { tab } : {}, replace: true });
  return (
    <Screen title={texts.models.title}>
      <Answered query={models} rows={5}>
        {({ models: found }) =>
          found.length === 0 ? (
            <Empty icon={<IconCpu size={40} aria-hidden />} title={texts.models.none}>
              {texts.models.noneHint}
            </Empty>
          ) : (
            <Tabs value={search.tab ?? "versions"} onChange={open} keepMounted={false}>
              <Tabs.List mb="md">
                <Tabs.Tab value="versions">{texts.models.versions}</Tabs.Tab>
                <Tabs.Tab value="evaluation">{texts.models.evaluation}</Tabs.Tab>
              </Tabs.List>
              <Tabs.Panel value="versions">
                <Versions models={found} />
              </Tabs.Panel>
              <Tabs.Panel value="evaluation">
                <Evaluation models={found} />
              </Tabs.Panel>
            </Tabs>
          )
        }
      </Answered>
    </Screen>
  );
}
