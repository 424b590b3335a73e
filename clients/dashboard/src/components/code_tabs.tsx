import { ActionIcon, Box, CopyButton, ScrollArea, Tabs, Tooltip } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import { texts } from "../texts/en";
import { type Call, type Form, snippet } from "./snippets";

const NAMES: Record<Form, string> = {
  curl: "curl",
  python: "Python",
  javascript: "JavaScript",
  grpcurl: "grpcurl",
  http: "HTTP",
};

/** A call in several forms, each of which can be copied. */
export function CodeTabs({ call, forms }: { call: Call; forms: readonly Form[] }) {
  return (
    <Tabs defaultValue={forms[0] ?? null} keepMounted={false}>
      <Tabs.List>
        {forms.map((form) => (
          <Tabs.Tab key={form} value={form}>
            {NAMES[form]}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      {forms.map((form) => (
        <Tabs.Panel key={form} value={form} pt="xs">
          <CodeText text={snippet(form, call)} label={NAMES[form]} />
        </Tabs.Panel>
      ))}
    </Tabs>
  );
}

function CodeText({ text, label }: { text: string; label: string }) {
  return (
    <Box pos="relative">
      {/* A region that scrolls must be reached by the keyboard. */}
      <ScrollArea
        type="auto"
        bg="var(--mantine-color-default-hover)"
        bdrs="md"
        viewportProps={{ tabIndex: 0, role: "region", "aria-label": label }}
      >
        <Box component="pre" m={0} p="md" pr={48} fz="xs" ff="monospace" data-snippet={label}>
          {text}
        </Box>
      </ScrollArea>
      <CopyButton value={text}>
        {({ copied, copy }) => (
          <Tooltip label={copied ? texts.common.copied : texts.common.copy}>
            <ActionIcon
              variant="default"
              pos="absolute"
              top={8}
              right={8}
              aria-label={texts.common.copy}
              onClick={copy}
            >
              {copied ? <IconCheck size={16} /> : <IconCopy size={16} />}
            </ActionIcon>
          </Tooltip>
        )}
      </CopyButton>
    </Box>
  );
}
