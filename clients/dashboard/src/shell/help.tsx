import { Kbd, Modal, Table } from "@mantine/core";
import { texts } from "../texts/en";

const t = texts.shell.keys;

/** Says what keys do. */
export function Help({ isOpen, onClose }: { isOpen: boolean; onClose: () => void }) {
  return (
    <Modal
      opened={isOpen}
      onClose={onClose}
      title={t.title}
      closeButtonProps={{ "aria-label": texts.common.close }}
    >
      <Table>
        <Table.Tbody>
          {t.list.map(({ keys, does }) => (
            <Table.Tr key={does}>
              <Table.Td>
                {keys.map((key) => (
                  <Kbd key={key} mr={4}>
                    {key}
                  </Kbd>
                ))}
              </Table.Td>
              <Table.Td>{does}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Modal>
  );
}
