import { MutationCache, QueryCache, QueryClient } from "@tanstack/react-query";
import type { Caller } from "../gen/image_categorizer/v1/caller_pb";
import { isPassing, isSignedOut } from "./error";
import { forgetKey } from "./session";

const MAX_RETRIES = 2;
/** The query of who calls, which decides whether people see the page to sign in. */
export const CALLER_KEY = ["caller"];

function onError(error: unknown): void {
  if (!isSignedOut(error)) return;
  forgetKey();
  changeCaller(null);
}

/** What the server has answered, for all screens. */
export const queries = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    queries: {
      retry: (count, error) => count < MAX_RETRIES && isPassing(error),
      staleTime: 5_000,
    },
  },
});

/** Shows the screens of somebody else, or the page to sign in; nothing stays of what others were answered. */
export function changeCaller(caller: Caller | null): void {
  queries.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== CALLER_KEY[0] });
  queries.setQueryData(CALLER_KEY, caller);
}
