import { type CSSVariablesResolver, createTheme, type MantineColorsTuple } from "@mantine/core";

// White text on shade 7 and shade 8 has a contrast of at least 5 : 1 (WCAG AA asks for 4.5).
const teal: MantineColorsTuple = [
  "#e8f7f6",
  "#d3ebea",
  "#a5d6d5",
  "#74c1bf",
  "#4eafad",
  "#36a4a1",
  "#27918e",
  "#0f7775",
  "#0b6664",
  "#075553",
];

export const theme = createTheme({
  primaryColor: "brand",
  primaryShade: { light: 7, dark: 7 },
  colors: { brand: teal },
  defaultRadius: "md",
  cursorType: "pointer",
  respectReducedMotion: true,
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
  fontFamilyMonospace:
    'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace',
});

/** Links are lighter in the dark, for they also stand on what the pointer is over. */
export const variables: CSSVariablesResolver = () => ({
  variables: {},
  light: {},
  dark: { "--mantine-color-anchor": teal[3] },
});
