import { Badge } from "@mantine/core";
import { Batch_State } from "../../gen/image_categorizer/v1/batch_pb";
import { texts } from "../../texts/en";

const COLOURS: Record<Batch_State, string> = {
  [Batch_State.STATE_UNSPECIFIED]: "gray",
  [Batch_State.QUEUED]: "gray",
  [Batch_State.RUNNING]: "blue",
  [Batch_State.COMPLETED]: "brand",
  [Batch_State.CANCELLING]: "orange",
  [Batch_State.CANCELLED]: "orange",
  [Batch_State.FAILED]: "red",
};

export function stateName(state: Batch_State): string {
  return texts.batches.state[Batch_State[state] as keyof typeof texts.batches.state];
}

export function StateBadge({ state }: { state: Batch_State }) {
  return (
    <Badge
      variant="default"
      tt="none"
      styles={{ section: { marginInlineEnd: 6 } }}
      leftSection={<Dot colour={COLOURS[state]} />}
    >
      {stateName(state)}
    </Badge>
  );
}

function Dot({ colour }: { colour: string }) {
  const background = `var(--mantine-color-${colour}-6)`;
  return <span style={{ display: "block", width: 8, height: 8, borderRadius: 4, background }} />;
}
