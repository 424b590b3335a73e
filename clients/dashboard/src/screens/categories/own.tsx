import { useInfiniteQuery, useQuery } from "@connectrpc/connect-query";
import {
  Button,
  Center,
  Group,
  Paper,
  SimpleGrid,
  Stack,
  Text,
  UnstyledButton,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconPlus, IconSchool } from "@tabler/icons-react";
import { useMay } from "../../api/caller";
import { Answered, Empty } from "../../components/states";
import {
  CategoryService,
  CategoryHead_Kind as Kind,
} from "../../gen/image_categorizer/v1/category_pb";
import { texts } from "../../texts/en";
import { NewCategory } from "./new_category";
import { OwnCategoryDrawer } from "./own_drawer";
import { categoriesRoute } from "./route";

/** The categories that the tenant teaches by examples. */
export function OwnCategories() {
  const search = categoriesRoute.useSearch();
  const navigate = categoriesRoute.useNavigate();
  const [isMaking, making] = useDisclosure();
  const mayTeach = useMay("classifier");
  const own = useInfiniteQuery(
    CategoryService.method.listOwnCategories,
    { pageSize: 200, pageToken: "" },
    { pageParamKey: "pageToken", getNextPageParam: (last) => last.nextPageToken || undefined },
  );
  const open = (category: string | undefined) =>
    navigate({ search: { tab: "own", ...(category ? { category } : {}) }, replace: true });
  const make = mayTeach && (
    <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={making.open}>
      {texts.categories.make}
    </Button>
  );
  return (
    <Stack gap="md">
      <Answered query={own}>
        {({ pages }) => {
          const categories = pages.flatMap((page) => page.categories);
          if (categories.length === 0) {
            return (
              <Empty icon={<IconSchool size={40} aria-hidden />} title={texts.categories.noneOwn}>
                <Stack align="center" gap="md">
                  {texts.categories.noneOwnHint}
                  {make}
                </Stack>
              </Empty>
            );
          }
          return (
            <>
              <Group justify="space-between">
                <Head />
                {make}
              </Group>
              <SimpleGrid cols={{ base: 1, xs: 2, md: 3 }} spacing="sm">
                {categories.map(({ category, exampleCount }) => (
                  <Paper key={category} withBorder>
                    <UnstyledButton p="md" w="100%" onClick={() => open(category)}>
                      <Text fw={600} truncate>
                        {category}
                      </Text>
                      <Text size="sm" c="dimmed">
                        {texts.categories.examples(exampleCount)}
                      </Text>
                    </UnstyledButton>
                  </Paper>
                ))}
              </SimpleGrid>
              {own.hasNextPage && (
                <Center>
                  <Button
                    variant="default"
                    loading={own.isFetchingNextPage}
                    onClick={() => own.fetchNextPage()}
                  >
                    {texts.common.more}
                  </Button>
                </Center>
              )}
            </>
          );
        }}
      </Answered>
      <NewCategory isOpen={isMaking} onClose={making.close} onMade={open} />
      {search.category && (
        <OwnCategoryDrawer
          key={search.category}
          category={search.category}
          onClose={() => open(undefined)}
        />
      )}
    </Stack>
  );
}

/** What decides between the tenant's categories. A model without embeddings has nothing that does. */
function Head() {
  const head = useQuery(CategoryService.method.getCategoryHead, {});
  if (!head.data) return <span />;
  const { kind, exampleCount, fitting, trial } = head.data;
  return (
    <Text size="sm" c="dimmed">
      {kind === Kind.LINEAR ? texts.categories.byRegression : texts.categories.byMeans}
      {texts.categories.known(exampleCount)}
      {fitting && texts.categories.fitting}
      {trial &&
        texts.categories.trial(trial.rightCount, trial.baselineRightCount, trial.totalCount)}
    </Text>
  );
}
