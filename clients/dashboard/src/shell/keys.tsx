import { useDisclosure, useHotkeys } from "@mantine/hooks";
import { lazy, Suspense, useState } from "react";

const Palette = lazy(async () => ({ default: (await import("./palette")).Palette }));
const Help = lazy(async () => ({ default: (await import("./help")).Help }));

/** The keys that work on every screen: a palette of commands, and help. Each is loaded when it is asked for. */
export function Keys() {
  const [isHelpOpen, help] = useDisclosure();
  const [asked, setAsked] = useState({ palette: false, help: false });
  const openPalette = async () => {
    setAsked((old) => ({ ...old, palette: true }));
    (await import("./palette_store")).openPalette();
  };
  const openHelp = () => {
    setAsked((old) => ({ ...old, help: true }));
    help.open();
  };
  useHotkeys([
    ["mod+K", openPalette],
    ["shift+?", openHelp],
    ["?", openHelp], // where the key needs no Shift
  ]);
  return (
    <Suspense fallback={null}>
      {asked.palette && <Palette />}
      {asked.help && <Help isOpen={isHelpOpen} onClose={help.close} />}
    </Suspense>
  );
}
