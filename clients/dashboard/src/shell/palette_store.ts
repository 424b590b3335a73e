import { createSpotlight } from "@mantine/spotlight";

const [store, actions] = createSpotlight();

/** What the palette and the key that opens it share. */
export const paletteStore = store;

export function openPalette(): void {
  actions.open();
}
