import { ActionIcon, Button, Group, Menu, Modal, Stack, TextInput } from "@mantine/core";
import { useClipboard, useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { IconBookmark, IconTrash } from "@tabler/icons-react";
import { type FormEvent, useState } from "react";
import { texts } from "../../texts/en";
import { libraryRoute } from "./route";
import type { View } from "./search";
import { removeView, saveView, useViews } from "./views";

const BUILT_IN: { name: string; view: View }[] = [
  { name: texts.library.views.all, view: {} },
  { name: texts.library.views.uncertain, view: { max: 50 } },
  { name: texts.library.views.unreviewed, view: { review: "UNREVIEWED" } },
  { name: texts.library.views.corrected, view: { review: "CORRECTED" } },
];

/** Views that people come back to. What one shows is in its address. */
export function ViewMenu({ view }: { view: View }) {
  const navigate = libraryRoute.useNavigate();
  const [isNaming, naming] = useDisclosure();
  const clipboard = useClipboard();
  const saved = useViews();
  const words = texts.library.views;
  const copy = () => {
    clipboard.copy(window.location.href);
    notifications.show({ message: texts.common.copied });
  };
  return (
    <>
      <Menu position="bottom-end" width={240}>
        <Menu.Target>
          <Button variant="default" leftSection={<IconBookmark size={18} aria-hidden />}>
            {words.menu}
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Label>{words.builtIn}</Menu.Label>
          {BUILT_IN.map((choice) => (
            <Menu.Item key={choice.name} onClick={() => navigate({ search: choice.view })}>
              {choice.name}
            </Menu.Item>
          ))}
          {saved.length > 0 && <Menu.Label>{words.own}</Menu.Label>}
          {saved.map((choice) => (
            <Menu.Item key={choice.name} onClick={() => navigate({ search: choice.view })}>
              {choice.name}
            </Menu.Item>
          ))}
          <Menu.Divider />
          <Menu.Item onClick={naming.open}>{words.save}</Menu.Item>
          <Menu.Item onClick={copy}>{words.copy}</Menu.Item>
        </Menu.Dropdown>
      </Menu>
      {isNaming && <Naming view={view} onClose={naming.close} />}
    </>
  );
}

function Naming({ view, onClose }: { view: View; onClose: () => void }) {
  const [name, setName] = useState("");
  const saved = useViews();
  const words = texts.library.views;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    saveView(localStorage, name.trim(), view);
    onClose();
  };
  return (
    <Modal
      opened
      onClose={onClose}
      title={words.save}
      closeButtonProps={{ "aria-label": texts.common.close }}
    >
      <Stack>
        <form onSubmit={submit}>
          <Group align="flex-end">
            <TextInput
              label={words.name}
              data-autofocus
              maxLength={60}
              value={name}
              onChange={(event) => setName(event.currentTarget.value)}
              flex={1}
            />
            <Button type="submit" disabled={!name.trim()}>
              {texts.common.save}
            </Button>
          </Group>
        </form>
        {saved.map((choice) => (
          <Group key={choice.name} justify="space-between">
            {choice.name}
            <ActionIcon
              variant="subtle"
              color="gray"
              aria-label={words.remove(choice.name)}
              onClick={() => removeView(localStorage, choice.name)}
            >
              <IconTrash size={18} />
            </ActionIcon>
          </Group>
        ))}
      </Stack>
    </Modal>
  );
}
