import { useMutation } from "@connectrpc/connect-query";
import { Button, Menu } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { IconDownload, IconPlayerStop, IconRefresh, IconTrash } from "@tabler/icons-react";
import { useMutation as useTask } from "@tanstack/react-query";
import { useMay } from "../../api/caller";
import { problemOf } from "../../api/error";
import { queries } from "../../api/query";
import { download } from "../../api/rest";
import { Confirm } from "../../components/confirm";
import { count } from "../../components/format";
import { type Batch, Batch_State, BatchService } from "../../gen/image_categorizer/v1/batch_pb";
import { texts } from "../../texts/en";
import { batchRoute } from "./route";
import { hasEnded, keepBatch } from "./watch";

function tell(error: unknown): void {
  notifications.show({ color: "red", message: problemOf(error).message });
}

/** What can be done with a batch. */
export function BatchActions({ batch, onRetry }: { batch: Batch; onRetry: () => void }) {
  const isClassifier = useMay("classifier");
  const words = texts.batches.batch;
  const { batchId } = batch;
  const cancel = useMutation(BatchService.method.cancelBatch, {
    onSuccess: keepBatch,
    onError: tell,
  });
  const retry = useMutation(BatchService.method.retryBatch, {
    onSuccess: (answer) => {
      keepBatch(answer);
      onRetry();
    },
    onError: tell,
  });
  const isEnded = hasEnded(batch);
  const retried =
    batch.failedCount + (batch.state === Batch_State.CANCELLED ? batch.pendingCount : 0);
  return (
    <>
      {isClassifier && !isEnded && batch.state !== Batch_State.CANCELLING && (
        <Button
          variant="default"
          leftSection={<IconPlayerStop size={18} aria-hidden />}
          loading={cancel.isPending}
          onClick={() => cancel.mutate({ batchId })}
        >
          {words.cancel}
        </Button>
      )}
      {isClassifier && isEnded && retried > 0 && (
        <Button
          leftSection={<IconRefresh size={18} aria-hidden />}
          loading={retry.isPending}
          onClick={() => retry.mutate({ batchId })}
        >
          {words.retry(count(retried))}
        </Button>
      )}
      <Export batchId={batchId} />
      {isClassifier && isEnded && <Remove batchId={batchId} />}
    </>
  );
}

const FORMATS = [
  { name: texts.batches.batch.csv, query: "format=csv", suffix: "csv" },
  { name: texts.batches.batch.csvExcel, query: "format=csv&bom=true", suffix: "csv" },
  { name: texts.batches.batch.ndjson, query: "format=jsonl", suffix: "ndjson" },
];

function Export({ batchId }: { batchId: string }) {
  const task = useTask({
    mutationFn: ({ query, suffix }: { query: string; suffix: string }) =>
      download(`/v1/batch/${batchId}/results:export?${query}`, `${batchId}.${suffix}`),
    onError: tell,
  });
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <Button
          variant="default"
          leftSection={<IconDownload size={18} aria-hidden />}
          loading={task.isPending}
        >
          {texts.batches.batch.export}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        {FORMATS.map((format) => (
          <Menu.Item key={format.query} onClick={() => task.mutate(format)}>
            {format.name}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

function Remove({ batchId }: { batchId: string }) {
  const [isOpen, { open, close }] = useDisclosure();
  const navigate = batchRoute.useNavigate();
  const words = texts.batches.batch;
  const remove = useMutation(BatchService.method.deleteBatch, {
    onSuccess: async () => {
      notifications.show({ message: words.removed });
      await navigate({ to: "/ui/batches" });
      await queries.invalidateQueries();
    },
  });
  return (
    <>
      <Button variant="default" leftSection={<IconTrash size={18} aria-hidden />} onClick={open}>
        {words.remove}
      </Button>
      <Confirm
        isOpen={isOpen}
        title={words.removeTitle}
        action={words.remove}
        isDangerous
        isPending={remove.isPending}
        error={remove.error}
        onConfirm={() => remove.mutate({ batchId })}
        onClose={close}
      >
        {words.removeText}
      </Confirm>
    </>
  );
}
