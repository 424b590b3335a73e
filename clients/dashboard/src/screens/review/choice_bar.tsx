import { Button, Group, Kbd, Paper, Stack, Text } from "@mantine/core";
import { IconBan, IconPlayerSkipForward, IconSearch } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { texts } from "../../texts/en";
import { type Choice, NO_CATEGORY } from "./choices";
import classes from "./review.module.css";

/** What can be said, each with its key: a column beside one image, or a bar below many. */
export function ChoiceBar({
  choices,
  count,
  isTall,
  canPutAside,
  onChoose,
  onSearch,
  onPutAside,
}: {
  choices: Choice[];
  count: number;
  isTall: boolean;
  canPutAside: boolean;
  onChoose: (category: string) => void;
  onSearch: () => void;
  onPutAside: () => void;
}) {
  const buttons = (
    <>
      {choices.map((choice, index) => (
        <ChoiceButton
          key={choice.category}
          hotkey={String(index + 1)}
          isFull={isTall}
          isFirst={index === 0}
          onClick={() => onChoose(choice.category)}
          note={
            choice.confidence === undefined ? undefined : texts.common.percent(choice.confidence)
          }
        >
          {choice.category}
        </ChoiceButton>
      ))}
      <ChoiceButton
        hotkey="/"
        isFull={isTall}
        onClick={onSearch}
        icon={<IconSearch size={16} aria-hidden />}
      >
        {texts.review.search}
      </ChoiceButton>
      <ChoiceButton
        hotkey="0"
        isFull={isTall}
        onClick={() => onChoose(NO_CATEGORY)}
        icon={<IconBan size={16} aria-hidden />}
      >
        {texts.review.noneOfThem}
      </ChoiceButton>
      {canPutAside && (
        <ChoiceButton
          hotkey="s"
          isFull={isTall}
          onClick={onPutAside}
          icon={<IconPlayerSkipForward size={16} aria-hidden />}
        >
          {texts.review.putAside}
        </ChoiceButton>
      )}
    </>
  );
  if (isTall) {
    return (
      <Stack gap="xs" component="section" aria-label={texts.review.choices(count)}>
        {buttons}
      </Stack>
    );
  }
  return (
    <Paper
      component="section"
      aria-label={texts.review.choices(count)}
      className={classes.bar ?? ""}
      withBorder
      shadow="md"
      p="sm"
    >
      <Text size="sm" fw={600} mb="xs">
        {texts.review.choices(count)}
      </Text>
      <Group gap="xs" className={classes.buttons ?? ""}>
        {buttons}
      </Group>
    </Paper>
  );
}

function ChoiceButton({
  hotkey,
  isFull,
  isFirst = false,
  note,
  icon,
  onClick,
  children,
}: {
  hotkey: string;
  isFull: boolean;
  isFirst?: boolean;
  note?: string | undefined;
  icon?: ReactNode;
  onClick: () => void;
  children: ReactNode;
}) {
  return (
    <Button
      variant={isFirst ? "light" : "default"}
      size={isFull ? "sm" : "xs"}
      fullWidth={isFull}
      justify={isFull ? "flex-start" : "center"}
      aria-keyshortcuts={hotkey}
      onClick={onClick}
      leftSection={
        <Group gap={6} wrap="nowrap" {...(icon ? {} : { visibleFrom: "sm" })}>
          <Kbd size="xs" aria-hidden className={classes.key ?? ""}>
            {hotkey}
          </Kbd>
          {icon}
        </Group>
      }
    >
      <span className={classes.name}>{children}</span>
      {note && <span className={classes.note}>{note}</span>}
    </Button>
  );
}
