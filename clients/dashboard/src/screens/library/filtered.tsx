import { useInfiniteQuery } from "@connectrpc/connect-query";
import { Loader } from "@mantine/core";
import { Answered, Empty, ErrorNotice } from "../../components/states";
import {
  ImageService,
  ListImagesRequest_ReviewState,
} from "../../gen/image_categorizer/v1/image_pb";
import { texts } from "../../texts/en";
import { Filters } from "./filters";
import { Gallery } from "./gallery";
import { tagsOf, type View, withoutImage } from "./search";

const PAGE_SIZE = 200;

/** The images that pass the filters, newest first. */
export function FilteredImages({ view, onOpen }: { view: View; onOpen: (id: string) => void }) {
  const words = texts.library;
  const found = useInfiniteQuery(
    ImageService.method.listImages,
    {
      pageSize: PAGE_SIZE,
      pageToken: "",
      filename: view.filename ?? "",
      category: view.category ?? "",
      subjectId: view.subject ?? "",
      tags: tagsOf(view.tags),
      reviewState: ListImagesRequest_ReviewState[view.review ?? "REVIEW_STATE_UNSPECIFIED"],
      ...(view.min !== undefined && { minConfidence: view.min / 100 }),
      ...(view.max !== undefined && { maxConfidence: view.max / 100 }),
    },
    {
      pageParamKey: "pageToken",
      getNextPageParam: (last) => last.nextPageToken || undefined,
    },
  );
  const isFiltering = Object.keys(withoutImage(view)).length > 0;
  return (
    <>
      <Filters key={JSON.stringify(withoutImage(view))} view={view} />
      <Answered query={found} rows={5}>
        {({ pages }) => {
          const images = pages.flatMap((page) => page.images);
          if (images.length === 0) {
            if (isFiltering) return <Empty title={words.noneFound} />;
            return <Empty title={words.none}>{words.noneHint}</Empty>;
          }
          return (
            <Gallery
              images={images}
              onOpen={onOpen}
              onEnd={() => {
                if (found.hasNextPage && !found.isFetchingNextPage) void found.fetchNextPage();
              }}
            />
          );
        }}
      </Answered>
      {found.isFetchNextPageError && (
        <ErrorNotice error={found.error} onRetry={() => found.fetchNextPage()} />
      )}
      {found.isFetchingNextPage && <Loader size="sm" aria-label={texts.common.loading} />}
    </>
  );
}
