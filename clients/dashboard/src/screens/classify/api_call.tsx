import { Button, Modal, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconCode } from "@tabler/icons-react";
import { CodeTabs } from "../../components/code_tabs";
import type { Options } from "../../components/snippets";
import { texts } from "../../texts/en";
import type { Source } from "./classification";

const t = texts.classify.call;

/** Shows how a program makes the call of this screen. */
export function ApiCall({ source, options }: { source: Source; options: Options }) {
  const [isOpen, dialog] = useDisclosure();
  return (
    <>
      <Button
        variant="default"
        leftSection={<IconCode size={18} aria-hidden />}
        onClick={dialog.open}
      >
        {t.button}
      </Button>
      <Modal
        opened={isOpen}
        onClose={dialog.close}
        title={t.title}
        size="xl"
        closeButtonProps={{ "aria-label": texts.common.close }}
      >
        <Stack>
          <Text size="sm" c="dimmed">
            {t.hint}
          </Text>
          <CodeTabs
            forms={["curl", "python", "javascript", "grpcurl", "http"]}
            call={{
              baseUrl: window.location.origin,
              key: null,
              source:
                source.kind === "file"
                  ? { kind: "file", name: source.file.name }
                  : { kind: "uri", uri: source.uri },
              options,
            }}
          />
        </Stack>
      </Modal>
    </>
  );
}
