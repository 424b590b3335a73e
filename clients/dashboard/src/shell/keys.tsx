import { Kbd, Modal, Table } from "@mantine/core";
import { useDisclosure, useHotkeys } from "@mantine/hooks";
import { lazy, Suspense, useState } from "react";
import { texts } from "../texts/en";

const Palette = lazy(async () => ({ default: (await import("./palette")).Palette }));
const t = texts.shell.keys;

/** The keys that work on every screen: a palette of commands, and this help. */
export function Keys() {
  const [isHelpOpen, help] = useDisclosure();
  const [isAsked, setAsked] = useState(false);
  const openPalette = async () => {
    setAsked(true);
    (await import("./palette_store")).openPalette();
  };
  useHotkeys([
    ["mod+K", openPalette],
    ["shift+?", help.open],
  ]);
  return (
    <>
      {isAsked && (
        <Suspense fallback={null}>
          <Palette />
        </Suspense>
      )}
      <Modal
        opened={isHelpOpen}
        onClose={help.close}
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
    </>
  );
}
