import "uplot/dist/uPlot.min.css";
import { useComputedColorScheme } from "@mantine/core";
import { useElementSize, useMergedRef } from "@mantine/hooks";
import { useEffect, useRef } from "react";
import UPlot from "uplot";
import { texts } from "../texts/en";

const HEIGHT_PX = 260;

export type Curve = {
  name: string;
  /** One for each x, in [0, 1]; null where there is none. */
  values: (number | null)[];
  /** A variable of the theme, such as `--mantine-color-blue-6`. */
  colour: string;
  kind?: "line" | "points" | "dashed";
};

/** Shares over shares: both axes go from 0 to 100 %. The table beside it says the same in words. */
export function Curves({
  label,
  xName,
  xs,
  curves,
}: {
  label: string;
  xName: string;
  /** In [0, 1], ascending. */
  xs: number[];
  curves: Curve[];
}) {
  const { ref: measured, width } = useElementSize<HTMLDivElement>();
  const drawn = useRef<HTMLDivElement>(null);
  const ref = useMergedRef(measured, drawn);
  const scheme = useComputedColorScheme("light");
  const content = JSON.stringify([xName, xs, curves, scheme]);
  useEffect(() => {
    const place = drawn.current;
    if (!place || width === 0) return;
    const [name, x, shown] = JSON.parse(content) as [string, number[], Curve[]];
    const plot = new UPlot(optionsOf(place, width, name, shown), dataOf(x, shown), place);
    return () => plot.destroy();
  }, [content, width]);
  return <div ref={ref} role="img" aria-label={label} style={{ minHeight: HEIGHT_PX + 40 }} />;
}

function dataOf(xs: number[], curves: Curve[]): UPlot.AlignedData {
  return [xs, ...curves.map(({ values }) => values)];
}

function optionsOf(place: Element, width: number, xName: string, curves: Curve[]): UPlot.Options {
  const style = getComputedStyle(place);
  const colourOf = (variable: string) => style.getPropertyValue(variable).trim();
  const percent = (value: number | null) => (value === null ? "–" : texts.common.percent(value));
  const axis: UPlot.Axis = {
    stroke: colourOf("--mantine-color-text"),
    grid: { stroke: colourOf("--mantine-color-default-border"), width: 1 },
    ticks: { stroke: colourOf("--mantine-color-default-border"), width: 1 },
    values: (_, splits) => splits.map((split) => `${Math.round(100 * split)} %`),
  };
  return {
    width,
    height: HEIGHT_PX,
    scales: { x: { time: false, range: [0, 1] }, y: { range: [0, 1.02] } },
    axes: [
      { ...axis, label: xName },
      { ...axis, size: 56 },
    ],
    series: [
      { label: xName, value: (_, value) => percent(value) },
      ...curves.map(({ name, colour, kind = "line" }): UPlot.Series => {
        const stroke = colourOf(colour);
        return {
          label: name,
          stroke,
          width: 2,
          value: (_, value) => percent(value),
          points: { show: kind === "points", size: 9, fill: stroke },
          ...(kind === "points" && { width: 1 }),
          ...(kind === "dashed" && { dash: [6, 6], width: 1 }),
          spanGaps: kind === "points",
        };
      }),
    ],
  };
}
