import { useMutation } from "@connectrpc/connect-query";
import { Button, Modal, Stack, Text, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { IconEraser, IconTrash } from "@tabler/icons-react";
import { useState } from "react";
import { queries } from "../../api/query";
import { ErrorNotice } from "../../components/states";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import { ImageService } from "../../gen/image_categorizer/v1/image_pb";
import { texts } from "../../texts/en";

type Removal = { onDone: () => void };

/** Tells that something is gone, and reads anew what is shown. */
async function leave(message: string, onDone: () => void): Promise<void> {
  notifications.show({ message });
  onDone();
  await queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] === "connect-query" });
}

export function RemoveImage({ imageId, onDone }: { imageId: string } & Removal) {
  const [isOpen, { open, close }] = useDisclosure();
  const words = texts.library.panel;
  const remove = useMutation(ImageService.method.deleteImage, {
    onSuccess: () => leave(words.removed, onDone),
  });
  return (
    <>
      <Button
        size="xs"
        variant="default"
        leftSection={<IconTrash size={16} aria-hidden />}
        onClick={open}
      >
        {words.remove}
      </Button>
      <Modal
        opened={isOpen}
        onClose={close}
        title={words.removeTitle}
        closeButtonProps={{ "aria-label": texts.common.close }}
      >
        <Stack>
          <Text size="sm">{words.removeText}</Text>
          {remove.isError && <ErrorNotice error={remove.error} />}
          <Button
            color="red.8"
            loading={remove.isPending}
            onClick={() => remove.mutate({ imageId })}
          >
            {words.removeNow}
          </Button>
        </Stack>
      </Modal>
    </>
  );
}

export function EraseSubject({ subjectId, onDone }: { subjectId: string } & Removal) {
  const [isOpen, { open, close }] = useDisclosure();
  const [typed, setTyped] = useState("");
  const words = texts.library.panel;
  const erase = useMutation(AdminService.method.eraseSubject, {
    onSuccess: () => leave(words.erased, onDone),
  });
  return (
    <>
      <Button
        size="xs"
        variant="default"
        leftSection={<IconEraser size={16} aria-hidden />}
        onClick={open}
      >
        {words.erase}
      </Button>
      <Modal
        opened={isOpen}
        onClose={close}
        title={words.eraseTitle(subjectId)}
        closeButtonProps={{ "aria-label": texts.common.close }}
      >
        <Stack>
          <Text size="sm">{words.eraseText}</Text>
          <TextInput
            label={words.eraseType(subjectId)}
            value={typed}
            onChange={(event) => setTyped(event.currentTarget.value)}
            autoComplete="off"
          />
          {erase.isError && <ErrorNotice error={erase.error} />}
          <Button
            color="red.8"
            disabled={typed !== subjectId}
            loading={erase.isPending}
            onClick={() => erase.mutate({ subjectId })}
          >
            {words.eraseNow}
          </Button>
        </Stack>
      </Modal>
    </>
  );
}
