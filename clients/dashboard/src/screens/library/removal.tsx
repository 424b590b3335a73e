import { useMutation } from "@connectrpc/connect-query";
import { Button, Stack, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { IconEraser, IconTrash } from "@tabler/icons-react";
import { useState } from "react";
import { queries } from "../../api/query";
import { Confirm } from "../../components/confirm";
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
      <Confirm
        isOpen={isOpen}
        title={words.removeTitle}
        action={words.removeNow}
        isDangerous
        isPending={remove.isPending}
        error={remove.error}
        onConfirm={() => remove.mutate({ imageId })}
        onClose={close}
      >
        {words.removeText}
      </Confirm>
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
      <Confirm
        isOpen={isOpen}
        title={words.eraseTitle(subjectId)}
        action={words.eraseNow}
        isDangerous
        isReady={typed === subjectId}
        isPending={erase.isPending}
        error={erase.error}
        onConfirm={() => erase.mutate({ subjectId })}
        onClose={close}
      >
        <Stack gap="sm">
          {words.eraseText}
          <TextInput
            label={words.eraseType(subjectId)}
            value={typed}
            onChange={(event) => setTyped(event.currentTarget.value)}
            autoComplete="off"
          />
        </Stack>
      </Confirm>
    </>
  );
}
