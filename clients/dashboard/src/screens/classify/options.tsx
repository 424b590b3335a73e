import { SegmentedControl, Select, Slider, Stack, Switch, Text } from "@mantine/core";
import { useEffect, useState } from "react";
import type { Model } from "../../gen/image_categorizer/v1/metadata_pb";
import { Model_State } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import type { Overlay } from "./route";

const t = texts.classify.options;

/** Returns how the address names a version. */
export function nameOf({ name, version }: Model): string {
  return `${name}@${version}`;
}

/** Chooses a version that can serve. */
export function ModelSelect({
  label,
  nothing,
  models,
  value,
  onChange,
}: {
  label: string;
  nothing: string;
  models: Model[];
  value: string | undefined;
  onChange: (name: string | undefined) => void;
}) {
  const serving = models.filter(
    ({ state }) => state === Model_State.READY || state === Model_State.STANDBY,
  );
  return (
    <Select
      label={label}
      placeholder={nothing}
      clearable
      clearButtonProps={{ "aria-label": texts.common.remove }}
      searchable={serving.length > 8}
      data={serving.map((model) => ({
        value: nameOf(model),
        label: [`${model.name} ${model.version}`, ...model.aliases].join(" · "),
      }))}
      value={value ?? null}
      onChange={(name) => onChange(name ?? undefined)}
    />
  );
}

/** Sets the threshold. It is applied while the handle moves, and stands in the address when it stops. */
export function Threshold({
  value,
  onMove,
  onStop,
}: {
  value: number;
  onMove: (threshold: number) => void;
  onStop: (threshold: number) => void;
}) {
  return (
    <Stack gap={4}>
      <Text size="sm" fw={500} id="threshold">
        {t.threshold}: {texts.common.percent(value)}
      </Text>
      <Slider
        min={0}
        max={1}
        step={0.01}
        label={null}
        value={value}
        onChange={onMove}
        onChangeEnd={onStop}
        thumbProps={{ "aria-labelledby": "threshold" }}
      />
    </Stack>
  );
}

export function RollUp({ value, onChange }: { value: boolean; onChange: (isOn: boolean) => void }) {
  return (
    <Switch
      label={t.rollUp}
      checked={value}
      onChange={(event) => onChange(event.currentTarget.checked)}
    />
  );
}

export function OverlayChoice({
  value,
  onChange,
}: {
  value: Overlay | undefined;
  onChange: (overlay: Overlay | undefined) => void;
}) {
  return (
    <SegmentedControl
      aria-label={t.overlay}
      value={value ?? "plain"}
      onChange={(chosen) => onChange(chosen === "plain" ? undefined : (chosen as Overlay))}
      data={[
        { value: "plain", label: t.plain },
        { value: "boxes", label: t.boxes },
        { value: "heat", label: t.heat },
      ]}
    />
  );
}

/** Returns a value that moves at once, and follows the address. */
export function useMoving(value: number): [number, (value: number) => void] {
  const [moving, setMoving] = useState(value);
  useEffect(() => setMoving(value), [value]);
  return [moving, setMoving];
}
