import { Badge } from "@mantine/core";
import { texts } from "../../texts/en";

type State = keyof typeof texts.access.states;

const COLORS: Partial<Record<State, string>> = {
  active: "green",
  enabled: "green",
  delivered: "green",
  done: "green",
  pending: "blue",
  running: "blue",
  suspended: "orange",
  failed: "red",
  gone: "red",
  revoked: "red",
  deleting: "red",
};

/** The state of a key, webhook, delivery, erasure or tenant. */
export function StateBadge({ state }: { state: State }) {
  return (
    <Badge variant="dot" color={COLORS[state] ?? "gray"} tt="none">
      {texts.access.states[state]}
    </Badge>
  );
}
