import { Button, FileButton, Group, Paper, Stack, Text, TextInput } from "@mantine/core";
import { Dropzone } from "@mantine/dropzone";
import { IconCamera, IconPhotoUp, IconUpload } from "@tabler/icons-react";
import { type FormEvent, useEffect, useEffectEvent, useState } from "react";
import { texts } from "../../texts/en";

const t = texts.classify.source;
const ADDRESS = /^(https|s3|gs|az):\/\/\S+$/;
const MAX_ADDRESS_CHARACTERS = 2048;

/** Gives the picture that is pasted anywhere in the page. */
export function usePasted(onFile: (file: File) => void, onUri: (uri: string) => void): void {
  const take = useEffectEvent((event: ClipboardEvent) => {
    if (event.target instanceof HTMLInputElement) return;
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) =>
      type.startsWith("image/"),
    );
    const text = event.clipboardData?.getData("text").trim() ?? "";
    if (file) onFile(file);
    else if (isAddress(text)) onUri(text);
  });
  useEffect(() => {
    window.addEventListener("paste", take);
    return () => window.removeEventListener("paste", take);
  }, []);
}

/** Where people give the first picture. */
export function FirstSource({ onFile, onUri }: Given) {
  return (
    <Stack>
      <Dropzone.FullScreen active onDrop={([file]) => file && onFile(file)} multiple={false}>
        <DropText />
      </Dropzone.FullScreen>
      <Paper withBorder p="xl" style={{ borderStyle: "dashed" }}>
        <Stack align="center" gap="md">
          <DropText />
          <Group justify="center" gap="sm">
            <ChooseButtons onFile={onFile} />
          </Group>
        </Stack>
      </Paper>
      <AddressForm onUri={onUri} />
    </Stack>
  );
}

type Given = { onFile: (file: File) => void; onUri: (uri: string) => void };

/** Where people give another picture, beside the one that is shown. */
export function NextSource({ onFile }: { onFile: (file: File) => void }) {
  return (
    <>
      <Dropzone.FullScreen active onDrop={([file]) => file && onFile(file)} multiple={false}>
        <DropText />
      </Dropzone.FullScreen>
      <ChooseButtons onFile={onFile} isNext />
    </>
  );
}

function DropText() {
  return (
    <Stack align="center" gap={4} ta="center">
      <IconUpload size={40} stroke={1.4} aria-hidden />
      <Text fw={600} size="lg">
        {t.drop}
      </Text>
      <Text c="dimmed" size="sm">
        {t.hint}
      </Text>
    </Stack>
  );
}

function ChooseButtons({
  onFile,
  isNext = false,
}: {
  onFile: (file: File) => void;
  isNext?: boolean;
}) {
  const take = (file: File | null) => file && onFile(file);
  return (
    <>
      <FileButton onChange={take} accept="image/*,.heic,.heif,.avif,.tif,.tiff">
        {(props) => (
          <Button
            {...props}
            variant={isNext ? "default" : "filled"}
            leftSection={<IconPhotoUp size={18} aria-hidden />}
          >
            {isNext ? t.another : t.choose}
          </Button>
        )}
      </FileButton>
      <FileButton onChange={take} accept="image/*" capture="environment">
        {(props) => (
          <Button
            {...props}
            variant="default"
            hiddenFrom="sm"
            leftSection={<IconCamera size={18} aria-hidden />}
          >
            {t.camera}
          </Button>
        )}
      </FileButton>
    </>
  );
}

function AddressForm({ onUri }: { onUri: (uri: string) => void }) {
  const [uri, setUri] = useState("");
  const [isWrong, setWrong] = useState(false);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setWrong(!isAddress(uri.trim()));
    if (isAddress(uri.trim())) onUri(uri.trim());
  };
  return (
    <form onSubmit={submit}>
      <TextInput
        label={t.address}
        description={t.addressHint}
        error={isWrong ? t.badAddress : undefined}
        value={uri}
        maxLength={MAX_ADDRESS_CHARACTERS}
        onChange={(event) => setUri(event.currentTarget.value)}
        rightSectionWidth="auto"
        rightSection={
          <Button type="submit" size="compact-sm" variant="light" mr={6} disabled={!uri.trim()}>
            {t.fetch}
          </Button>
        }
      />
    </form>
  );
}

function isAddress(text: string): boolean {
  return text.length <= MAX_ADDRESS_CHARACTERS && ADDRESS.test(text);
}
