import { createClient } from "@connectrpc/connect";
import { createConnectQueryKey } from "@connectrpc/connect-query";
import { NumberInput, Stack } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { queries } from "../../api/query";
import { transport } from "../../api/transport";
import { Confirm } from "../../components/confirm";
import { MetadataService } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import { CANARY, type Change, STABLE } from "./changes";

const FIRST_CANARY_PERCENT = 5;
const client = createClient(MetadataService, transport);

/** Asks before a version serves others, or no longer; shows why the server refuses. */
export function ChangeDialog({ change, onClose }: { change: Change; onClose: () => void }) {
  const { kind, model, version, alias = "" } = change;
  const [percent, setPercent] = useState<number | string>(FIRST_CANARY_PERCENT);
  const share = Number(percent);
  const done = useMutation({
    mutationFn: () => carryOut(change, share),
    onSuccess: async () => {
      notifications.show({ message: texts.models.done[kind](model, version, alias) });
      onClose();
      const schema = MetadataService;
      const queryKey = createConnectQueryKey({ schema, cardinality: undefined });
      await queries.invalidateQueries({ queryKey });
    },
  });
  return (
    <Confirm
      isOpen
      title={texts.models.asks[kind](model, version, alias)}
      action={texts.models.kinds[kind](alias)}
      isDangerous={kind === "unload" || kind === "removeAlias"}
      isPending={done.isPending}
      error={done.error}
      onConfirm={() => done.mutate()}
      onClose={onClose}
    >
      <Stack gap="md">
        {texts.models.meanings[kind]}
        {kind === "canary" && (
          <NumberInput
            label={texts.models.canaryPercent}
            suffix=" %"
            min={0}
            max={100}
            decimalScale={1}
            value={percent}
            onChange={setPercent}
          />
        )}
      </Stack>
    </Confirm>
  );
}

function carryOut({ kind, model, version, alias = "" }: Change, canaryPercent: number) {
  switch (kind) {
    case "promote":
    case "rollBack":
      return client.setModelAlias({ model, alias: STABLE, version });
    case "canary":
      return client.setModelAlias({ model, alias: CANARY, version, canaryPercent });
    case "removeAlias":
      return client.setModelAlias({ model, alias, version: "" });
    case "load":
      return client.loadModel({ model, version });
    case "unload":
      return client.unloadModel({ model, version });
  }
}
