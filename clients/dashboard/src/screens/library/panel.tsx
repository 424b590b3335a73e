import { useQuery } from "@connectrpc/connect-query";
import { Badge, Button, Drawer, Group, Stack, Table, Text, Title, Tooltip } from "@mantine/core";
import { IconPhotoSearch } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { useMay } from "../../api/caller";
import { bytes, when } from "../../components/format";
import { Picture } from "../../components/picture";
import { Predictions } from "../../components/predictions";
import { ReceiptCheck } from "../../components/receipt";
import { Answered } from "../../components/states";
import {
  type Image,
  ImageService,
  type PictureFacts,
} from "../../gen/image_categorizer/v1/image_pb";
import { texts } from "../../texts/en";
import { EraseSubject, RemoveImage } from "./removal";
import { libraryRoute } from "./route";

const FETCHED_PX = 800;
const MAX_HEIGHT_PX = 320;

/** All about one image, beside the others. */
export function ImagePanel({
  imageId,
  onClose,
  onLeave,
}: {
  imageId: string;
  onClose: () => void;
  /** Another set of images is shown from now on. */
  onLeave: () => void;
}) {
  const image = useQuery(ImageService.method.getImage, { imageId });
  return (
    <Drawer
      opened
      onClose={onClose}
      position="right"
      size="md"
      title={texts.library.panel.title}
      closeButtonProps={{ "aria-label": texts.common.close }}
    >
      <Answered query={image}>
        {(found) => <About image={found} onClose={onClose} onLeave={onLeave} />}
      </Answered>
    </Drawer>
  );
}

function About({
  image,
  onClose,
  onLeave,
}: {
  image: Image;
  onClose: () => void;
  onLeave: () => void;
}) {
  const navigate = libraryRoute.useNavigate();
  const isClassifier = useMay("classifier");
  const isAdmin = useMay("admin");
  const words = texts.library.panel;
  const height = Math.min(MAX_HEIGHT_PX, (400 * image.heightPx) / image.widthPx);
  const similar = () => {
    onLeave();
    void navigate({ search: { similar: image.imageId } });
  };
  return (
    <Stack>
      <Picture
        imageId={image.imageId}
        widthPx={FETCHED_PX}
        alt={image.filename || image.imageId}
        height={height}
      />
      <Group>
        {image.result && (
          <Button
            size="xs"
            variant="default"
            leftSection={<IconPhotoSearch size={16} aria-hidden />}
            onClick={similar}
          >
            {words.similar}
          </Button>
        )}
        {isClassifier && <RemoveImage imageId={image.imageId} onDone={onClose} />}
        {isAdmin && image.subjectId && (
          <EraseSubject subjectId={image.subjectId} onDone={onClose} />
        )}
      </Group>
      <Title order={2} size="h5">
        {words.result}
      </Title>
      {image.result ? (
        <>
          <Predictions predictions={image.result.predictions} />
          <ReceiptCheck key={image.result.resultId} resultId={image.result.resultId} />
        </>
      ) : (
        <Text size="sm">{words.noResult}</Text>
      )}
      <Title order={2} size="h5">
        {words.facts}
      </Title>
      <Facts image={image} />
    </Stack>
  );
}

function Facts({ image }: { image: Image }) {
  const words = texts.library.panel;
  const model = image.result?.model;
  return (
    <Table layout="fixed" withRowBorders={false} verticalSpacing={4} horizontalSpacing={0}>
      <Table.Tbody>
        {image.filename && <Fact name={words.file}>{image.filename}</Fact>}
        <Fact name={words.size}>
          {words.pixels(image.widthPx, image.heightPx)}, {bytes(image.sizeBytes)}
        </Fact>
        <Fact name={words.format}>
          {image.format}
          {image.hasMetadata && `. ${words.metadata}`}
        </Fact>
        <Fact name={words.stored}>{when(image.createTime)}</Fact>
        {image.subjectId && <Fact name={words.subject}>{image.subjectId}</Fact>}
        {image.tags.length > 0 && (
          <Fact name={words.tags}>
            <Group gap={4}>
              {image.tags.map((tag) => (
                <Badge key={tag} variant="default" tt="none">
                  {tag}
                </Badge>
              ))}
            </Group>
          </Fact>
        )}
        {model && <Fact name={words.model}>{words.version(model.name, model.version)}</Fact>}
        {image.facts && <Looks facts={image.facts} />}
        <Fact name={words.id}>{image.imageId}</Fact>
        <Fact name={words.sha256}>{image.sha256}</Fact>
      </Table.Tbody>
    </Table>
  );
}

function Looks({ facts }: { facts: PictureFacts }) {
  const words = texts.library.panel;
  return (
    <>
      <Fact name={words.colours}>
        <Group gap={4}>
          {facts.dominantColours.map(({ name, share }) => (
            <Tooltip key={name} label={`${name}, ${texts.common.percent(share)}`}>
              <span
                role="img"
                aria-label={`${name}, ${texts.common.percent(share)}`}
                style={{
                  width: 22,
                  height: 22,
                  borderRadius: 4,
                  background: name,
                  border: "1px solid var(--mantine-color-default-border)",
                }}
              />
            </Tooltip>
          ))}
        </Group>
      </Fact>
      <Fact name={words.brightness}>{texts.common.percent(facts.brightness)}</Fact>
      <Fact name={words.sharpness}>{facts.sharpness.toFixed(4)}</Fact>
    </>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <Table.Tr>
      <Table.Th w={96} fw={500} style={{ verticalAlign: "top" }}>
        {name}
      </Table.Th>
      <Table.Td style={{ overflowWrap: "anywhere" }}>{children}</Table.Td>
    </Table.Tr>
  );
}
