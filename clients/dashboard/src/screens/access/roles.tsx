import { Anchor, Stack, Table, Text } from "@mantine/core";
import { texts } from "../../texts/en";

const t = texts.access.roles;
const ROLES = ["viewer", "classifier", "operator", "admin", "platform", "worker"] as const;

/** What each role may do. */
export function Roles() {
  return (
    <Stack maw={760}>
      <Text>{t.intro}</Text>
      <Table>
        <Table.Tbody>
          {ROLES.map((role) => (
            <Table.Tr key={role}>
              <Table.Th scope="row">{role}</Table.Th>
              <Table.Td>{t[role]}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      <Anchor href="/docs/roles.html">{t.all}</Anchor>
    </Stack>
  );
}
