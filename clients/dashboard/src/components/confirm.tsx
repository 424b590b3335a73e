import { Button, Group, Modal, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import type { ReactNode } from "react";
import { texts } from "../texts/en";
import { ErrorNotice } from "./states";

type Change = { isPending: boolean; error: unknown; reset: () => void };

/**
 * A button for what cannot be undone: it asks first, and stays open while the change fails.
 *
 * @param confirm does the change; resolves once it is done.
 */
export function ConfirmButton({
  label,
  title,
  children,
  change,
  confirm,
  size = "xs",
}: {
  label: string;
  title: string;
  children: ReactNode;
  change: Change;
  confirm: () => Promise<unknown>;
  size?: "xs" | "sm";
}) {
  const [isOpen, { open, close }] = useDisclosure();
  const leave = () => {
    change.reset();
    close();
  };
  return (
    <>
      <Button size={size} variant="default" onClick={open}>
        {label}
      </Button>
      <Modal
        opened={isOpen}
        onClose={leave}
        title={title}
        closeButtonProps={{ "aria-label": texts.common.close }}
      >
        <Stack>
          <Text size="sm" component="div">
            {children}
          </Text>
          {change.error !== null && <ErrorNotice error={change.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={leave}>
              {texts.common.cancel}
            </Button>
            <Button
              color="red.8"
              loading={change.isPending}
              onClick={() => confirm().then(leave, () => undefined)}
            >
              {label}
            </Button>
          </Group>
        </Stack>
      </Modal>
    </>
  );
}
