import { createClient } from "@connectrpc/connect";
import { useQuery } from "@tanstack/react-query";
import { transport } from "../api/transport";
import { FeedbackService } from "../gen/image_categorizer/v1/feedback_pb";
import {
  ImageService,
  ListImagesRequest_ReviewState as ReviewState,
} from "../gen/image_categorizer/v1/image_pb";
import { reviewedOf } from "./answers";

const PAGE_SIZE = 1000;
const MAX_PAGES = 5;
const images = createClient(ImageService, transport);
const feedback = createClient(FeedbackService, transport);

/** The images that people have judged: the newest 5000, as far as the newest 5000 judgements are about them. */
export function useReviewed() {
  return useQuery({
    queryKey: ["reviewed"],
    queryFn: async ({ signal }) => {
      const reviewState = ReviewState.REVIEWED;
      const [stored, said] = await Promise.all([
        allOf(
          (pageToken) =>
            images.listImages({ reviewState, pageSize: PAGE_SIZE, pageToken }, { signal }),
          (answer) => answer.images,
        ),
        allOf(
          (pageToken) => feedback.listFeedback({ pageSize: PAGE_SIZE, pageToken }, { signal }),
          (answer) => answer.feedback,
        ),
      ]);
      return reviewedOf(stored, said);
    },
    staleTime: 0,
    refetchOnWindowFocus: false,
  });
}

async function allOf<Answer extends { nextPageToken: string }, Item>(
  pageAt: (pageToken: string) => Promise<Answer>,
  itemsOf: (answer: Answer) => Item[],
): Promise<Item[]> {
  const found: Item[] = [];
  let pageToken = "";
  for (let page = 0; page < MAX_PAGES; page++) {
    const answer = await pageAt(pageToken);
    found.push(...itemsOf(answer));
    pageToken = answer.nextPageToken;
    if (!pageToken) break;
  }
  return found;
}
