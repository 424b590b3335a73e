import { createClient } from "@connectrpc/connect";
import { useQuery } from "@tanstack/react-query";
import { type Category, MetadataService } from "../gen/image_categorizer/v1/metadata_pb";
import { transport } from "./transport";

const PAGE_SIZE = 1000;
// The largest label set in use, that of ImageNet-21k, has 22 pages.
const MAX_PAGES = 50;
const STALE_MS = 5 * 60_000;
const client = createClient(MetadataService, transport);

/** All categories of a model version; of the default model if `model` is empty. */
export function useCategories(model: string, version: string) {
  return useQuery({
    queryKey: ["all-categories", model, version],
    queryFn: async ({ signal }) => {
      const found: Category[] = [];
      let pageToken = "";
      for (let page = 0; page < MAX_PAGES; page++) {
        const request = { model, version, pageSize: PAGE_SIZE, pageToken };
        const answer = await client.listCategories(request, { signal });
        found.push(...answer.categories);
        pageToken = answer.nextPageToken;
        if (!pageToken) break;
      }
      return found;
    },
    staleTime: STALE_MS,
  });
}
