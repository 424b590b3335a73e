import { Badge, Button, Group, Menu, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { IconArrowBackUp, IconChevronDown } from "@tabler/icons-react";
import { useState } from "react";
import { useMay } from "../../api/caller";
import { type Model, Model_State as State } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import { ChangeDialog } from "./change_dialog";
import { CANARY, type Change, changesOf, type Family, familiesOf, rollBackTarget } from "./changes";

const MIB = 2 ** 20;
const COLOURS: Record<State, string> = {
  [State.STATE_UNSPECIFIED]: "gray",
  [State.LOADING]: "blue",
  [State.READY]: "green",
  [State.FAILED]: "red",
  [State.UNLOADED]: "gray",
  [State.STANDBY]: "gray",
};

/** All versions of all models, and what an administrator can do with them. */
export function Versions({ models }: { models: readonly Model[] }) {
  const [change, setChange] = useState<Change | null>(null);
  return (
    <Stack gap="lg">
      {familiesOf(models).map((family) => (
        <FamilyCard key={family.name} family={family} onChange={setChange} />
      ))}
      {change && <ChangeDialog change={change} onClose={() => setChange(null)} />}
    </Stack>
  );
}

function FamilyCard({ family, onChange }: { family: Family; onChange: (change: Change) => void }) {
  const mayChange = useMay("admin");
  const before = rollBackTarget(family);
  return (
    <Paper withBorder p="md" component="section" aria-label={family.name}>
      <Group justify="space-between" mb="xs">
        <Group gap="sm">
          <Title order={2} size="h4">
            {family.name}
          </Title>
          {family.isDefault && <Badge variant="default">{texts.models.standard}</Badge>}
        </Group>
        {mayChange && before && (
          <Button
            size="xs"
            variant="default"
            leftSection={<IconArrowBackUp size={16} aria-hidden />}
            onClick={() =>
              onChange({ kind: "rollBack", model: family.name, version: before.version })
            }
          >
            {texts.models.rollBack(before.version)}
          </Button>
        )}
      </Group>
      <Table.ScrollContainer minWidth={680} scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}>
        <Table verticalSpacing="sm" aria-label={texts.models.versionsOf(family.name)}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{texts.models.version}</Table.Th>
              <Table.Th>{texts.models.state}</Table.Th>
              <Table.Th>{texts.models.aliases}</Table.Th>
              <Table.Th>{texts.models.runs}</Table.Th>
              <Table.Th ta="right">{texts.models.categories}</Table.Th>
              <Table.Th ta="right">{texts.models.memory}</Table.Th>
              <Table.Th>{mayChange && texts.models.actions}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {family.versions.map((model) => (
              <VersionRow
                key={model.version}
                model={model}
                changes={mayChange ? changesOf(family, model) : []}
                onChange={onChange}
              />
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Paper>
  );
}

function VersionRow({
  model,
  changes,
  onChange,
}: {
  model: Model;
  changes: Change[];
  onChange: (change: Change) => void;
}) {
  return (
    <Table.Tr>
      <Table.Td fw={600}>{model.version}</Table.Td>
      <Table.Td>
        <Badge variant="dot" color={COLOURS[model.state]}>
          {texts.models.states[model.state]}
        </Badge>
        {model.stateMessage && (
          <Text size="xs" mt={4} maw={320}>
            {model.stateMessage}
          </Text>
        )}
      </Table.Td>
      <Table.Td>
        <Group gap={6}>
          {model.aliases.map((alias) => (
            <Badge key={alias} variant="light" tt="none">
              {alias === CANARY ? texts.models.canaryShare(model.canaryPercent) : alias}
            </Badge>
          ))}
        </Group>
      </Table.Td>
      <Table.Td>
        <Text size="sm">
          {[model.runtime, model.device, model.precision].filter(Boolean).join(", ") || "–"}
        </Text>
        <Text size="xs" c="dimmed">
          {texts.models.input(model.inputWidthPx, model.inputHeightPx)}
          {model.licence && ` · ${model.licence}`}
        </Text>
      </Table.Td>
      <Table.Td ta="right">{model.categoryCount.toLocaleString("en")}</Table.Td>
      <Table.Td ta="right">{texts.models.mebibytes(Number(model.residentBytes) / MIB)}</Table.Td>
      <Table.Td>
        {changes.length > 0 && (
          <Menu position="bottom-end">
            <Menu.Target>
              <Button
                size="xs"
                variant="default"
                rightSection={<IconChevronDown size={14} aria-hidden />}
                aria-label={texts.models.change(model.name, model.version)}
              >
                {texts.models.changeShort}
              </Button>
            </Menu.Target>
            <Menu.Dropdown>
              {changes.map((change) => (
                <Menu.Item key={`${change.kind} ${change.alias}`} onClick={() => onChange(change)}>
                  {texts.models.kinds[change.kind](change.alias ?? "")}
                </Menu.Item>
              ))}
            </Menu.Dropdown>
          </Menu>
        )}
      </Table.Td>
    </Table.Tr>
  );
}
