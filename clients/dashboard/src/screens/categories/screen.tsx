import { Tabs } from "@mantine/core";
import { Screen } from "../../components/screen";
import { texts } from "../../texts/en";
import { OwnCategories } from "./own";
import { categoriesRoute } from "./route";
import { ModelCategories } from "./taxonomy";

export function Categories() {
  const search = categoriesRoute.useSearch();
  const navigate = categoriesRoute.useNavigate();
  return (
    <Screen title={texts.categories.title}>
      <Tabs
        value={search.tab ?? "model"}
        onChange={(tab) => navigate({ search: tab === "own" ? { tab } : {}, replace: true })}
        keepMounted={false}
      >
        <Tabs.List mb="md">
          <Tabs.Tab value="model">{texts.categories.ofModel}</Tabs.Tab>
          <Tabs.Tab value="own">{texts.categories.own}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="model">
          <ModelCategories />
        </Tabs.Panel>
        <Tabs.Panel value="own">
          <OwnCategories />
        </Tabs.Panel>
      </Tabs>
    </Screen>
  );
}
