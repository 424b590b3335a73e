import "@mantine/spotlight/styles.css";

import { Modal, useMantineColorScheme, VisuallyHidden } from "@mantine/core";
import { Spotlight } from "@mantine/spotlight";
import { IconBook, IconMoon, IconSun } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { includes, useCaller } from "../api/caller";
import { texts } from "../texts/en";
import { SCREENS } from "./navigation";
import { paletteStore } from "./palette_store";

/** Finds screens and commands by name. */
export function Palette() {
  const { role } = useCaller();
  const navigate = useNavigate();
  const { setColorScheme } = useMantineColorScheme();
  const [query, setQuery] = useState("");
  const actions = [
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
  const wanted = query.trim().toLowerCase();
  const found = actions.filter(({ label }) => label.toLowerCase().includes(wanted));
  return (
    <Spotlight.Root store={paletteStore} shortcut={null} query={query} onQueryChange={setQuery}>
      <VisuallyHidden>
        <Modal.Title>{texts.shell.palette.search}</Modal.Title>
      </VisuallyHidden>
      <Spotlight.Search
        placeholder={texts.shell.palette.search}
        aria-label={texts.shell.palette.search}
      />
      <Spotlight.ActionsList>
        {found.map(({ id, ...action }) => (
          <Spotlight.Action key={id} {...action} />
        ))}
        {found.length === 0 && <Spotlight.Empty>{texts.shell.palette.nothing}</Spotlight.Empty>}
      </Spotlight.ActionsList>
    </Spotlight.Root>
  );
}
