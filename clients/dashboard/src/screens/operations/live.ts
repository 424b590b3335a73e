import { useQuery } from "@connectrpc/connect-query";
import { useEffect, useState } from "react";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import type { ServerStatistics } from "../../gen/image_categorizer/v1/statistics_pb";
import { type Step, stepBetween } from "./rates";

const POLL_MS = 2_000;
const KEPT_STEPS = 150;

type Seen = { last: ServerStatistics | null; steps: Step[] };

/** What the server process counts, and what has happened in the last minutes. */
export function useLive() {
  const statistics = useQuery(
    AdminService.method.getServerStatistics,
    {},
    { refetchInterval: POLL_MS, staleTime: 0 },
  );
  const [seen, setSeen] = useState<Seen>({ last: null, steps: [] });
  const { data } = statistics;
  useEffect(() => {
    if (data) setSeen((old) => extended(old, data));
  }, [data]);
  return { statistics, steps: seen.steps };
}

/** Adds what has happened since; begins anew once another process has answered. */
function extended({ last, steps }: Seen, now: ServerStatistics): Seen {
  if (!last) return { last: now, steps };
  const step = stepBetween(last, now);
  if (step) return { last: now, steps: [...steps, step].slice(-KEPT_STEPS) };
  return last.processId === now.processId ? { last, steps } : { last: now, steps: [] };
}
