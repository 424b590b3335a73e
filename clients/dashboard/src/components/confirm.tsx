import { Button, Group, Modal, Stack, Text } from "@mantine/core";
import type { ReactNode } from "react";
import { texts } from "../texts/en";
import { ErrorNotice } from "./states";

/** Asks before something is done, says what it means, and shows why it was refused. */
export function Confirm({
  isOpen,
  title,
  action,
  isDangerous = false,
  isReady = true,
  isPending,
  error,
  onConfirm,
  onClose,
  children,
}: {
  isOpen: boolean;
  title: string;
  /** The words on the button. */
  action: string;
  isDangerous?: boolean;
  /** Whether what is asked for has been typed. */
  isReady?: boolean;
  isPending: boolean;
  error: unknown;
  onConfirm: () => void;
  onClose: () => void;
  /** What will happen. */
  children: ReactNode;
}) {
  return (
    <Modal
      opened={isOpen}
      onClose={onClose}
      title={title}
      closeButtonProps={{ "aria-label": texts.common.close }}
    >
      <Stack gap="md">
        <Text component="div" size="sm">
          {children}
        </Text>
        {error ? <ErrorNotice error={error} /> : null}
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose}>
            {texts.common.cancel}
          </Button>
          <Button
            {...(isDangerous ? { color: "red.8" } : {})}
            disabled={!isReady}
            loading={isPending}
            onClick={onConfirm}
          >
            {action}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
