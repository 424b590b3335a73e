import { MutationCache, QueryCache, QueryClient } from "@tanstack/react-query";
import { isPassing, isSignedOut } from "./error";
import { forgetKey } from "./session";

const MAX_RETRIES = 2;
/** The query of who calls, which decides whether people see the page to sign in. */
export const CALLER_KEY = ["caller"];

function onError(error: unknown): void {
  if (!isSignedOut(error)) return;
  forgetKey();
  queries.setQueryData(CALLER_KEY, null);
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
