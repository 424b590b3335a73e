import { Alert, Anchor, Button, Group, Modal, Stack, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { Predictions } from "../../components/predictions";
import { ReceiptCheck } from "../../components/receipt";
import type { Batch } from "../../gen/image_categorizer/v1/batch_pb";
import { texts } from "../../texts/en";
import type { Row } from "./filter";
import { SentPicture } from "./grid";

const PICTURE_PX = 260;

/** One item of a batch, large. */
export function ItemDetails({
  batch,
  row,
  file,
  onClose,
  onMove,
}: {
  batch: Batch;
  row: Row;
  file: File | undefined;
  onClose: () => void;
  /** Shows the next item, or the one before. */
  onMove: (step: 1 | -1) => void;
}) {
  const words = texts.batches.batch;
  const name = row.filename.split("/").at(-1) ?? "";
  return (
    <Modal
      opened
      onClose={onClose}
      title={<Text style={{ overflowWrap: "anywhere" }}>{row.filename}</Text>}
      closeButtonProps={{ "aria-label": texts.common.close }}
      size="lg"
    >
      <Stack>
        {file && <SentPicture file={file} height={PICTURE_PX} />}
        {row.reason ? (
          <Alert color="red" variant="light" title={row.reason}>
            {row.message}
          </Alert>
        ) : (
          <Predictions predictions={row.predictions} />
        )}
        {!row.reason && <ReceiptCheck resultId={`${batch.batchId}.${row.item}`} />}
        {batch.options?.store && !row.reason && (
          <Anchor
            size="sm"
            renderRoot={(props) => <Link to="/ui/library" search={{ filename: name }} {...props} />}
          >
            {words.inLibrary}
          </Anchor>
        )}
        <Group justify="space-between">
          <Button variant="default" onClick={() => onMove(-1)}>
            {words.previous}
          </Button>
          <Button variant="default" onClick={() => onMove(1)}>
            {words.next}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
