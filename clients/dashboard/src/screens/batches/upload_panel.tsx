import "@mantine/dropzone/styles.css";
import { useQuery } from "@connectrpc/connect-query";
import {
  Alert,
  Button,
  Group,
  NumberInput,
  Paper,
  Progress,
  SimpleGrid,
  Stack,
  Switch,
  Text,
  TextInput,
} from "@mantine/core";
import { Dropzone } from "@mantine/dropzone";
import { IconFolderOpen, IconPhotoPlus, IconUpload } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useRef, useState } from "react";
import { bytes, count, duration } from "../../components/format";
import { ErrorNotice } from "../../components/states";
import { type Limits, MetadataService } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import { type Choice, choose } from "./choose";
import type { SendOptions } from "./send";
import {
  dropUpload,
  hurryUpload,
  resumeUpload,
  startUpload,
  type Upload,
  useUpload,
} from "./upload";

const DEFAULTS: SendOptions = { store: false, subjectId: "", confidencePercent: 0 };

/** Takes a folder, images or a zip file, and shows how far their upload is. */
export function UploadPanel() {
  const upload = useUpload();
  const [choice, setChoice] = useState<Choice | null>(null);
  if (upload) return <Progressing upload={upload} />;
  if (!choice) return <Chooser onChoose={(files) => setChoice(choose(files))} />;
  return <Confirm choice={choice} onDiscard={() => setChoice(null)} />;
}

function Chooser({ onChoose }: { onChoose: (files: File[]) => void }) {
  const info = useQuery(MetadataService.method.getServerInfo, {});
  const folder = useRef<HTMLInputElement>(null);
  const open = useRef<() => void>(null);
  const words = texts.batches.upload;
  const limits = info.data?.limits;
  return (
    <Dropzone
      onDrop={onChoose}
      openRef={open}
      activateOnClick={false}
      activateOnKeyboard={false}
      tabIndex={-1}
      enablePointerEvents
      useFsAccessApi={false}
      inputProps={{ "aria-label": words.files }}
    >
      <Stack align="center" gap="xs" py="sm">
        <IconPhotoPlus size={36} stroke={1.5} aria-hidden />
        <Text fw={600}>{words.drop}</Text>
        {limits && (
          <Text size="sm" c="dimmed">
            {words.limits(count(limits.maxBatchItems), bytes(Number(limits.maxBatchBytes)))}
          </Text>
        )}
        <Group justify="center" gap="sm" mt="xs">
          <Button
            leftSection={<IconFolderOpen size={18} aria-hidden />}
            onClick={() => folder.current?.click()}
          >
            {words.chooseFolder}
          </Button>
          <Button variant="default" onClick={() => open.current?.()}>
            {words.chooseFiles}
          </Button>
        </Group>
        <input
          ref={folder}
          type="file"
          hidden
          multiple
          aria-label={words.chooseFolder}
          {...{ webkitdirectory: "" }}
          onChange={(event) => onChoose([...(event.currentTarget.files ?? [])])}
        />
      </Stack>
    </Dropzone>
  );
}

/** Returns why the server would refuse these files; null if it would not. */
function refusal(choice: Choice, limits: Limits | undefined): string | null {
  const words = texts.batches.upload;
  if (choice.files.length === 0) return words.nothing;
  if (!limits) return null;
  if (choice.files.length > limits.maxBatchItems) return words.tooMany(count(limits.maxBatchItems));
  const most = Number(limits.maxBatchBytes);
  return choice.size_bytes > most ? words.tooLarge(bytes(most)) : null;
}

function Confirm({ choice, onDiscard }: { choice: Choice; onDiscard: () => void }) {
  const [options, setOptions] = useState(DEFAULTS);
  const info = useQuery(MetadataService.method.getServerInfo, {});
  const words = texts.batches.upload;
  const refused = refusal(choice, info.data?.limits);
  const set = (changed: Partial<SendOptions>) => setOptions({ ...options, ...changed });
  return (
    <Paper withBorder p="md">
      <Stack>
        <Text fw={600}>{words.ready(count(choice.files.length), bytes(choice.size_bytes))}</Text>
        {choice.leftOutCount > 0 && (
          <Text size="sm" c="dimmed">
            {words.leftOut(count(choice.leftOutCount))}
          </Text>
        )}
        {refused && <Alert color="red">{refused}</Alert>}
        <SimpleGrid cols={{ base: 1, sm: 3 }}>
          <Switch
            label={words.store}
            description={words.storeHint}
            checked={options.store}
            onChange={(event) => set({ store: event.currentTarget.checked })}
          />
          {options.store && (
            <TextInput
              label={words.subject}
              description={words.subjectHint}
              maxLength={128}
              value={options.subjectId}
              onChange={(event) => set({ subjectId: event.currentTarget.value })}
            />
          )}
          <NumberInput
            label={words.threshold}
            description={words.thresholdHint}
            min={0}
            max={100}
            value={options.confidencePercent}
            onChange={(value) => set({ confidencePercent: Number(value) || 0 })}
          />
        </SimpleGrid>
        <Group>
          <Button
            leftSection={<IconUpload size={18} aria-hidden />}
            disabled={refused !== null}
            onClick={() => {
              onDiscard();
              startUpload(choice, options);
            }}
          >
            {words.start}
          </Button>
          <Button variant="default" onClick={onDiscard}>
            {words.discard}
          </Button>
        </Group>
      </Stack>
    </Paper>
  );
}

function Progressing({ upload }: { upload: Upload }) {
  const words = texts.batches.upload;
  const { choice, phase, share, batchId } = upload;
  return (
    <Paper withBorder p="md" aria-live="polite">
      <Stack gap="sm">
        <Text fw={600}>{words.ready(count(choice.files.length), bytes(choice.size_bytes))}</Text>
        {phase !== "refused" && phase !== "done" && (
          <Progress
            value={100 * share}
            color={phase === "sending" ? "brand" : "orange"}
            aria-label={words.sending}
          />
        )}
        <PhaseWords upload={upload} />
        <Group>
          {phase === "waiting" && <Button onClick={hurryUpload}>{words.now}</Button>}
          {phase === "broken" && <Button onClick={resumeUpload}>{words.resume}</Button>}
          {phase === "done" && (
            <Button
              renderRoot={(props) => (
                <Link to="/ui/batches/$batchId" params={{ batchId }} {...props} />
              )}
            >
              {words.open}
            </Button>
          )}
          <Button variant="default" onClick={dropUpload}>
            {phase === "done" ? words.another : texts.common.cancel}
          </Button>
        </Group>
      </Stack>
    </Paper>
  );
}

function PhaseWords({ upload }: { upload: Upload }) {
  const words = texts.batches.upload;
  const { choice, phase, share, rateBytesPerS, attempt, error } = upload;
  switch (phase) {
    case "waiting":
      return <Text size="sm">{words.waiting(attempt + 1)}</Text>;
    case "broken":
      return <Text size="sm">{words.broken}</Text>;
    case "refused":
      return <ErrorNotice error={error} />;
    case "done":
      return <Text size="sm">{words.done}</Text>;
    case "sending": {
      if (share >= 1) return <Text size="sm">{words.arriving}</Text>;
      const left_s = (choice.size_bytes * (1 - share)) / Math.max(1, rateBytesPerS);
      return (
        <Text size="sm">
          {words.sent(
            bytes(share * choice.size_bytes),
            bytes(choice.size_bytes),
            bytes(rateBytesPerS),
          )}
          {rateBytesPerS > 0 && `, ${words.left(duration(left_s))}`}
        </Text>
      );
    }
  }
}
