import { useInfiniteQuery } from "@connectrpc/connect-query";
import { Button, Center, Stack, VisuallyHidden } from "@mantine/core";
import { useDisclosure, useHotkeys } from "@mantine/hooks";
import { IconChecklist } from "@tabler/icons-react";
import { useState } from "react";
import { Answered, Empty, Loading } from "../../components/states";
import {
  ListReviewItemsRequest_Order as Order,
  ReviewService,
} from "../../gen/image_categorizer/v1/review_pb";
import { texts } from "../../texts/en";
import { CategorySearch } from "./category_search";
import { ChoiceBar } from "./choice_bar";
import { choicesOf, NO_CATEGORY } from "./choices";
import { Focus } from "./focus";
import { Grid } from "./grid";
import { idOf, useJudge } from "./judge";
import { reviewRoute } from "./route";
import { cursorOf, moveTo, NOTHING_CHOSEN, targetsOf } from "./selection";
import { Toolbar } from "./toolbar";

const PAGE_SIZE = 60;
/** So many bits of perceptual hashes two pictures may differ in that look alike. */
const LOOK_ALIKE_BITS = 4;

/** The images that nobody has judged, and all that can be said about them, by keys or buttons. */
export function Queue() {
  const search = reviewRoute.useSearch();
  const [selection, setSelection] = useState(NOTHING_CHOSEN);
  const [withLookAlikes, setWithLookAlikes] = useState(false);
  const [isSearching, searching] = useDisclosure();
  const page = useReviewItems();
  const work = useJudge((imageIds) => {
    setSelection((old) => ({ ...old, cursorId: imageIds[0] ?? old.cursorId, chosen: new Set() }));
    page.refetch();
  });

  const gone = search.aside ? work.judged : new Set([...work.judged, ...work.aside]);
  const items = (page.data?.pages ?? [])
    .flatMap((answer) => answer.items)
    .filter((item) => !gone.has(idOf(item)));
  const ids = items.map(idOf);
  const cursor = cursorOf(ids, selection);
  const current = items[cursor];
  const isFocus = search.view === "focus";
  const targetIds = new Set(isFocus ? ids.slice(cursor, cursor + 1) : targetsOf(ids, selection));
  const targets = items.filter((item) => targetIds.has(idOf(item)));
  const choices = choicesOf(current?.image?.result?.predictions ?? [], work.recent);

  const clear = () => setSelection((old) => ({ ...old, cursorIndex: firstOf(ids, targetIds) }));
  const refill = () => {
    const left = items.length - targets.length;
    if (left < PAGE_SIZE / 2 && page.hasNextPage && !page.isFetching) page.fetchNextPage();
  };
  const choose = (category: string) => {
    if (targets.length === 0) return;
    clear();
    const lookAlikeBits = withLookAlikes ? LOOK_ALIKE_BITS : undefined;
    work.judge.mutate({ items: targets, category, lookAlikeBits });
    refill();
  };
  const putAside = () => {
    if (targets.length === 0 || search.aside) return;
    clear();
    work.putAside.mutate(targets);
    refill();
  };
  const move = (step: number) => setSelection((old) => moveTo(ids, old, cursor + step, false));
  const undo = () => work.undo.isPending || work.undo.mutate();

  useHotkeys([
    ...choices.map(({ category }, index): [string, () => void] => [
      String(index + 1),
      () => choose(category),
    ]),
    ["0", () => choose(NO_CATEGORY)],
    ["/", searching.open],
    ["shift+/", (event) => event.key === "/" && searching.open()],
    ["s", putAside],
    ["u", undo],
    ["mod+Z", undo],
    ["l", () => setWithLookAlikes((old) => !old)],
    ...(isFocus
      ? ([
          ["ArrowRight", () => move(1)],
          ["ArrowLeft", () => move(-1)],
        ] as [string, () => void][])
      : []),
  ]);

  const bar = current && (
    <ChoiceBar
      choices={choices}
      count={targets.length}
      isTall={isFocus}
      canPutAside={!search.aside}
      onChoose={choose}
      onSearch={searching.open}
      onPutAside={putAside}
    />
  );
  return (
    <Stack gap="md">
      <Toolbar
        last={work.last}
        isUndoing={work.undo.isPending}
        onUndo={undo}
        withLookAlikes={withLookAlikes}
        onLookAlikes={setWithLookAlikes}
      />
      <Answered query={page} rows={6}>
        {() =>
          current ? (
            isFocus ? (
              <Focus item={current} index={cursor} count={items.length} onMove={move}>
                {bar}
              </Focus>
            ) : (
              <Grid items={items} selection={selection} onSelect={setSelection}>
                {bar}
              </Grid>
            )
          ) : page.isFetching ? (
            <Loading />
          ) : (
            <Nothing isAside={search.aside === true} />
          )
        }
      </Answered>
      {page.hasNextPage && !isFocus && (
        <Center>
          <Button
            variant="default"
            loading={page.isFetchingNextPage}
            onClick={() => page.fetchNextPage()}
          >
            {texts.common.more}
          </Button>
        </Center>
      )}
      <VisuallyHidden role="status">
        {work.last ? texts.review.said(work.last.category, work.last.said.length) : ""}
      </VisuallyHidden>
      {current && (
        <CategorySearch
          item={current}
          count={targets.length}
          isOpen={isSearching}
          onClose={searching.close}
          onChoose={choose}
        />
      )}
    </Stack>
  );
}

function useReviewItems() {
  const search = reviewRoute.useSearch();
  return useInfiniteQuery(
    ReviewService.method.listReviewItems,
    {
      pageSize: PAGE_SIZE,
      pageToken: "",
      order: search.order === "disagreement" ? Order.DISAGREEMENT : Order.UNCERTAINTY,
      category: search.category ?? "",
      skipped: search.aside === true,
    },
    {
      pageParamKey: "pageToken",
      getNextPageParam: (last) => last.nextPageToken || undefined,
      // The list stays as it is while somebody works on it.
      refetchOnWindowFocus: false,
      // What was judged here must not be there again when the screen is opened again.
      gcTime: 0,
    },
  );
}

function firstOf(ids: readonly string[], targetIds: ReadonlySet<string>): number {
  return Math.max(
    0,
    ids.findIndex((id) => targetIds.has(id)),
  );
}

function Nothing({ isAside }: { isAside: boolean }) {
  return (
    <Empty
      icon={<IconChecklist size={40} aria-hidden />}
      title={isAside ? texts.review.noneAside : texts.review.none}
    >
      {isAside ? texts.review.noneAsideHint : texts.review.noneHint}
    </Empty>
  );
}
