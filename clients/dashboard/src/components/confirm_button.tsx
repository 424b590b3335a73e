import { Button } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import type { ReactNode } from "react";
import { Confirm } from "./confirm";

type Change = { isPending: boolean; error: unknown; reset: () => void };

/**
 * A button for what cannot be undone: it asks first, and keeps asking while the change fails.
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
      <Confirm
        isOpen={isOpen}
        title={title}
        action={label}
        isDangerous
        isPending={change.isPending}
        error={change.error}
        onConfirm={() => confirm().then(leave, () => undefined)}
        onClose={leave}
      >
        {children}
      </Confirm>
    </>
  );
}
