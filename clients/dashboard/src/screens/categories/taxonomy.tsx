import { useQuery } from "@connectrpc/connect-query";
import { Grid, Group, Select, Stack, Text, TextInput } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { useState } from "react";
import { useCategories } from "../../api/categories";
import { Answered, Empty } from "../../components/states";
import { MetadataService } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import { CategoryPanel } from "./panel";
import { categoriesRoute } from "./route";
import { pathOf, rowsOf, treeOf } from "./tree";
import { TreeView } from "./tree_view";

/** The categories of a model as a tree, with what is known of the chosen one. */
export function ModelCategories() {
  const search = categoriesRoute.useSearch();
  const navigate = categoriesRoute.useNavigate();
  const [words, setWords] = useState("");
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const categories = useCategories(search.model ?? "", search.version ?? "");
  const open = (category: string) =>
    navigate({ search: (old) => ({ ...old, category }), replace: true });
  return (
    <Stack gap="md">
      <Group gap="sm">
        <ModelSelect />
        <TextInput
          aria-label={texts.categories.search}
          placeholder={texts.categories.search}
          leftSection={<IconSearch size={16} aria-hidden />}
          value={words}
          onChange={(event) => setWords(event.currentTarget.value)}
        />
      </Group>
      <Answered query={categories} rows={6}>
        {(found) => {
          const tree = treeOf(found);
          const chosen = tree.nodes.get(search.category ?? "");
          const path = chosen ? pathOf(tree, chosen.name) : [];
          const shown = new Set([...opened, ...path]);
          const rows = rowsOf(tree, shown, words.trim());
          const choose = (name: string) => {
            setOpened(shown);
            open(name);
          };
          const toggle = (name: string) => {
            if (!shown.delete(name)) shown.add(name);
            setOpened(shown);
            // What is chosen stays in sight.
            if (path.includes(name)) open(name);
          };
          return (
            <Grid gap="lg">
              <Grid.Col span={{ base: 12, sm: 5 }}>
                <Text size="sm" c="dimmed" mb="xs">
                  {texts.categories.count(found.length, tree.nodes.size - found.length)}
                </Text>
                {rows.length > 0 ? (
                  <TreeView
                    rows={rows}
                    chosen={chosen?.name ?? ""}
                    onChoose={choose}
                    onToggle={toggle}
                  />
                ) : (
                  <Empty title={texts.categories.notFound(words)} />
                )}
              </Grid.Col>
              <Grid.Col span={{ base: 12, sm: 7 }}>
                {chosen ? (
                  <CategoryPanel tree={tree} node={chosen} onOpen={choose} />
                ) : (
                  <Empty title={texts.categories.chooseOne}>{texts.categories.chooseHint}</Empty>
                )}
              </Grid.Col>
            </Grid>
          );
        }}
      </Answered>
    </Stack>
  );
}

function ModelSelect() {
  const search = categoriesRoute.useSearch();
  const navigate = categoriesRoute.useNavigate();
  const models = useQuery(MetadataService.method.listModels, { pageSize: 1000 });
  const versions = (models.data?.models ?? []).map(({ name, version, default: isDefault }) => ({
    value: JSON.stringify([name, version]),
    label: texts.categories.model(name, version),
    isDefault,
  }));
  const standard = versions.find(({ isDefault }) => isDefault)?.value ?? null;
  const chosen = search.model ? JSON.stringify([search.model, search.version ?? ""]) : standard;
  return (
    <Select
      aria-label={texts.categories.modelLabel}
      data={versions.map(({ value, label }) => ({ value, label }))}
      value={chosen}
      allowDeselect={false}
      w={300}
      onChange={(value) => {
        if (!value) return;
        const [model, version] = JSON.parse(value) as [string, string];
        navigate({ search: { model, version }, replace: true });
      }}
    />
  );
}
