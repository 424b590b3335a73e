import { ActionIcon } from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import classes from "./categories.module.css";

/** In a corner of a picture, and seen on any picture. */
export function RemoveButton({
  label,
  disabled = false,
  onClick,
}: {
  label: string;
  disabled?: boolean;
  onClick: () => void;
}) {
  return (
    <ActionIcon
      className={classes.remove ?? ""}
      variant="default"
      size="sm"
      radius="xl"
      aria-label={label}
      disabled={disabled}
      onClick={onClick}
    >
      <IconX size={14} />
    </ActionIcon>
  );
}
