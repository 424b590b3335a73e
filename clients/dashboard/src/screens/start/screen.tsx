import { Anchor, Paper, SimpleGrid, Stack, Text, Timeline } from "@mantine/core";
import { IconCheck } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useMay } from "../../api/caller";
import { Screen } from "../../components/screen";
import type { ApiKey } from "../../gen/image_categorizer/v1/key_pb";
import { texts } from "../../texts/en";
import { FirstCall } from "./first_call";
import { MakeKey } from "./make_key";

const t = texts.start;

/** What leads a new user to the first answer. */
export function Start() {
  const mayMakeKeys = useMay("admin");
  const [key, setKey] = useState<ApiKey | null>(null);
  const [isCalled, setCalled] = useState(false);
  const done = isCalled ? 1 : key ? 0 : -1;
  return (
    <Screen title={t.title}>
      <Text maw={640}>{t.intro}</Text>
      <Timeline active={done} bulletSize={26} lineWidth={2}>
        <Timeline.Item title={t.steps.key} bullet={key ? <IconCheck size={14} /> : "1"}>
          <Paper withBorder p="md" mt="sm" maw={760}>
            {mayMakeKeys ? (
              <MakeKey apiKey={key} onMade={setKey} />
            ) : (
              <Text size="sm">{t.key.notAllowed}</Text>
            )}
          </Paper>
        </Timeline.Item>
        <Timeline.Item title={t.steps.call} bullet={isCalled ? <IconCheck size={14} /> : "2"}>
          <Paper withBorder p="md" mt="sm" maw={760}>
            <FirstCall apiKey={key} onCalled={() => setCalled(true)} />
          </Paper>
        </Timeline.Item>
        <Timeline.Item title={t.steps.see} bullet="3">
          <More />
        </Timeline.Item>
      </Timeline>
    </Screen>
  );
}

const MORE = [
  { to: "/ui/classify", name: t.see.classify, hint: t.see.classifyHint },
  { to: "/ui/batches", name: t.see.batches, hint: t.see.batchesHint },
  { to: "/ui/categories", name: t.see.categories, hint: t.see.categoriesHint },
] as const;

function More() {
  return (
    <SimpleGrid cols={{ base: 1, sm: 2 }} mt="sm" maw={760}>
      {MORE.map(({ to, name, hint }) => (
        <Paper withBorder p="md" key={to}>
          <Stack gap={4}>
            <Anchor renderRoot={(props) => <Link to={to} {...props} />}>{name}</Anchor>
            <Text size="sm" c="dimmed">
              {hint}
            </Text>
          </Stack>
        </Paper>
      ))}
      <Paper withBorder p="md">
        <Stack gap={4}>
          <Anchor href="/docs">{t.see.documentation}</Anchor>
          <Text size="sm" c="dimmed">
            {t.see.documentationHint}
          </Text>
        </Stack>
      </Paper>
    </SimpleGrid>
  );
}
