import { Button, Group, Modal, Stack, Text, TextInput } from "@mantine/core";
import { useState } from "react";
import { ErrorNotice } from "../../components/states";
import { texts } from "../../texts/en";
import { DropPictures } from "./drop_pictures";
import { useTeach } from "./teach";

/** With so many examples a category is usually recognized. */
const ENOUGH_EXAMPLES = 5;

/** Makes a category from a name and pictures that show it. */
export function NewCategory({
  isOpen,
  onClose,
  onMade,
}: {
  isOpen: boolean;
  onClose: () => void;
  onMade: (category: string) => void;
}) {
  const [name, setName] = useState("");
  const [files, setFiles] = useState<File[]>([]);
  const { teach, stored } = useTeach((category) => {
    close();
    onMade(category);
  });
  const close = () => {
    setName("");
    setFiles([]);
    teach.reset();
    onClose();
  };
  const category = name.trim();
  return (
    <Modal
      opened={isOpen}
      onClose={teach.isPending ? () => undefined : close}
      title={texts.categories.make}
      size="lg"
      closeButtonProps={{ "aria-label": texts.common.close }}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          teach.mutate({ category, files, isNew: true });
        }}
      >
        <Stack gap="md">
          <TextInput
            label={texts.categories.name}
            description={texts.categories.nameHint}
            value={name}
            maxLength={128}
            required
            data-autofocus
            onChange={(event) => setName(event.currentTarget.value)}
          />
          <DropPictures files={files} onChange={setFiles} />
          <Text size="sm" c="dimmed" role="status">
            {teach.isPending
              ? texts.categories.storing(stored, files.length)
              : texts.categories.enough(files.length, ENOUGH_EXAMPLES)}
          </Text>
          {teach.isError && <ErrorNotice error={teach.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={close} disabled={teach.isPending}>
              {texts.common.cancel}
            </Button>
            <Button
              type="submit"
              loading={teach.isPending}
              disabled={!category || files.length === 0}
            >
              {texts.categories.teach}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
