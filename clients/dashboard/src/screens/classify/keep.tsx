import { Button, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconCheck, IconDeviceFloppy } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { problemOf } from "../../api/error";
import type { Options } from "../../components/snippets";
import { texts } from "../../texts/en";
import { keep, type Source } from "./classification";

const t = texts.classify.keep;

/** Keeps the picture and the answer in the library. */
export function Keep({ source, options }: { source: Source; options: Options }) {
  const kept = useMutation({
    mutationFn: () => keep(source, options),
    onError: (error) => notifications.show({ color: "red", message: problemOf(error).message }),
  });
  if (kept.isSuccess) {
    return (
      <Button
        variant="light"
        leftSection={<IconCheck size={18} aria-hidden />}
        renderRoot={(props) => <Link to="/ui/library" {...props} />}
      >
        {t.kept}: <Text span>{t.open}</Text>
      </Button>
    );
  }
  return (
    <Button
      variant="default"
      loading={kept.isPending}
      leftSection={<IconDeviceFloppy size={18} aria-hidden />}
      onClick={() => kept.mutate()}
    >
      {t.button}
    </Button>
  );
}
