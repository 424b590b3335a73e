/** How strong an agreement is, after Landis and Koch (1977). */
export type Strength = "none" | "poor" | "slight" | "fair" | "moderate" | "substantial" | "perfect";

const BOUNDS: readonly [number, Strength][] = [
  [0.2, "slight"],
  [0.4, "fair"],
  [0.6, "moderate"],
  [0.8, "substantial"],
];

/** Returns how strong an agreement with this kappa is; `none` if there is no kappa. */
export function strengthOf(kappa: number | undefined): Strength {
  if (kappa === undefined) return "none";
  if (kappa < 0) return "poor";
  return BOUNDS.find(([bound]) => kappa <= bound)?.[1] ?? "perfect";
}
