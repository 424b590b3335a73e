import "uplot/dist/uPlot.min.css";

import { Box, Group, Stack, Text, useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import UPlot from "uplot";

const HEIGHT_PX = 180;
/** Told apart also by people who do not see red and green (Okabe and Ito, 2008). */
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#b25f93", "#8a6d00", "#2f7fb5"];

type Line = { name: string; values: (number | null)[] };

/**
 * Lines over time. The newest values stand in the legend, as text.
 *
 * @param times_s of the values, ascending, in seconds since 1970.
 * @param format writes a value.
 */
export function LineChart({
  title,
  times_s,
  lines,
  format,
}: {
  title: string;
  times_s: number[];
  lines: Line[];
  format: (value: number) => string;
}) {
  const holder = useRef<HTMLDivElement>(null);
  const isDark = useComputedColorScheme("light") === "dark";
  const names = lines.map(({ name }) => name).join("\n");
  // biome-ignore lint/correctness/useExhaustiveDependencies: the chart is made anew for other lines, not for new values
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const chart = new UPlot(
      optionsFor(element.clientWidth, lines, isDark, format),
      dataOf(times_s, lines),
      element,
    );
    charts.set(element, chart);
    const resized = new ResizeObserver(() =>
      chart.setSize({ width: element.clientWidth, height: HEIGHT_PX }),
    );
    resized.observe(element);
    return () => {
      resized.disconnect();
      charts.delete(element);
      chart.destroy();
    };
  }, [names, isDark]);
  useEffect(() => {
    if (holder.current) charts.get(holder.current)?.setData(dataOf(times_s, lines));
  }, [times_s, lines]);
  return (
    <Stack gap={4} component="figure" m={0}>
      <Text component="figcaption" fw={600} size="sm">
        {title}
      </Text>
      <Box ref={holder} h={HEIGHT_PX} aria-hidden />
      <Group gap="md">
        {lines.map(({ name, values }, line) => (
          <Group gap={6} key={name} wrap="nowrap">
            <Box w={10} h={10} bdrs={2} bg={colorOf(line)} aria-hidden />
            <Text size="xs">
              {name} {newest(values, format)}
            </Text>
          </Group>
        ))}
      </Group>
    </Stack>
  );
}

const charts = new WeakMap<HTMLElement, UPlot>();

function optionsFor(
  width: number,
  lines: Line[],
  isDark: boolean,
  format: (value: number) => string,
): UPlot.Options {
  const axis = {
    stroke: isDark ? "#c9c9c9" : "#495057",
    grid: { stroke: isDark ? "#3b3b3b" : "#e9ecef" },
    ticks: { show: false },
  };
  return {
    width,
    height: HEIGHT_PX,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
    axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map(format) }],
    series: [{}, ...lines.map((_, line) => ({ stroke: colorOf(line), width: 2, spanGaps: false }))],
  };
}

function dataOf(times_s: number[], lines: Line[]): UPlot.AlignedData {
  return [times_s, ...lines.map(({ values }) => values)];
}

function colorOf(line: number): string {
  return COLORS[line % COLORS.length] ?? "gray";
}

function newest(values: (number | null)[], format: (value: number) => string): string {
  const last = values.at(-1);
  return last === null || last === undefined ? "–" : format(last);
}
