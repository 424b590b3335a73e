import "@mantine/spotlight/styles.css";

import { useMantineColorScheme } from "@mantine/core";
import { Spotlight, type SpotlightActionData } from "@mantine/spotlight";
import { IconBook, IconMoon, IconSun } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { includes, useCaller } from "../api/caller";
import { texts } from "../texts/en";
import { SCREENS } from "./navigation";
import { paletteStore } from "./palette_store";

const MAX_ACTIONS = 12;

/** Finds screens and commands by name. */
export function Palette() {
  const { role } = useCaller();
  const navigate = useNavigate();
  const { setColorScheme } = useMantineColorScheme();
  const actions: SpotlightActionData[] = [
    ...SCREENS.filter((screen) => includes(role, screen.role)).map(({ to, name, icon: Icon }) => ({
      id: to,
      label: name,
      leftSection: <Icon size={20} aria-hidden />,
      onClick: () => navigate({ to }),
    })),
    {
      id: "docs",
      label: texts.shell.documentation,
      leftSection: <IconBook size={20} aria-hidden />,
      onClick: () => window.location.assign("/docs"),
    },
    {
      id: "light",
      label: texts.shell.light,
      leftSection: <IconSun size={20} aria-hidden />,
      onClick: () => setColorScheme("light"),
    },
    {
      id: "dark",
      label: texts.shell.dark,
      leftSection: <IconMoon size={20} aria-hidden />,
      onClick: () => setColorScheme("dark"),
    },
  ];
  return (
    <Spotlight
      store={paletteStore}
      actions={actions}
      shortcut={null}
      limit={MAX_ACTIONS}
      nothingFound={texts.shell.palette.nothing}
      searchProps={{
        placeholder: texts.shell.palette.search,
        "aria-label": texts.shell.palette.search,
      }}
    />
  );
}
