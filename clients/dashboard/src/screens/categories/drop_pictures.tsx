import "@mantine/dropzone/styles.css";
import { useQuery } from "@connectrpc/connect-query";
import { Group, Image, Stack, Text } from "@mantine/core";
import { Dropzone } from "@mantine/dropzone";
import { notifications } from "@mantine/notifications";
import { IconPhotoPlus } from "@tabler/icons-react";
import { useBlobUrl } from "../../components/picture";
import { MetadataService } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import classes from "./categories.module.css";
import { RemoveButton } from "./remove_button";

const MAX_FILES = 100;

/** Takes pictures by drop or from the file dialogue, and shows those that were taken. */
export function DropPictures({
  files,
  onChange,
}: {
  files: File[];
  onChange: (files: File[]) => void;
}) {
  const info = useQuery(MetadataService.method.getServerInfo, {});
  const maxSize = info.data?.limits?.maxImageBytes;
  return (
    <Stack gap="sm">
      <Dropzone
        onDrop={(more) => onChange([...files, ...more].slice(0, MAX_FILES))}
        onReject={(refused) =>
          notifications.show({
            color: "red",
            title: texts.categories.notTaken,
            message: refused.map(({ file }) => file.name).join(", "),
          })
        }
        accept={["image/*"]}
        {...(maxSize ? { maxSize } : {})}
        inputProps={{ "aria-label": texts.categories.pictures }}
        aria-label={texts.categories.drop}
      >
        <Group justify="center" gap="sm" mih={90} style={{ pointerEvents: "none" }}>
          <IconPhotoPlus size={32} aria-hidden />
          <Text size="sm">{texts.categories.drop}</Text>
        </Group>
      </Dropzone>
      {files.length > 0 && (
        <div className={classes.examples}>
          {files.map((file, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: the same file may be there twice
            <div className={classes.example} key={`${file.name} ${index}`}>
              <Preview file={file} />
              <RemoveButton
                label={texts.categories.leaveOut(file.name)}
                onClick={() => onChange(files.filter((other) => other !== file))}
              />
            </div>
          ))}
        </div>
      )}
    </Stack>
  );
}

function Preview({ file }: { file: File }) {
  const url = useBlobUrl(file);
  return url ? <Image src={url} alt={file.name} h="100%" fit="cover" /> : null;
}
