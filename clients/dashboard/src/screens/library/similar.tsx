import { createClient } from "@connectrpc/connect";
import { useQuery } from "@connectrpc/connect-query";
import { Button, Group, Image as Preview, Text } from "@mantine/core";
import { useQuery as useTask } from "@tanstack/react-query";
import { transport } from "../../api/transport";
import { Picture, useBlobUrl } from "../../components/picture";
import { Answered, Empty } from "../../components/states";
import { EmbeddingService, type SimilarImages } from "../../gen/image_categorizer/v1/embedding_pb";
import { texts } from "../../texts/en";
import { Gallery } from "./gallery";

const MAX_SIMILAR = 100;
const PREVIEW_PX = 72;
const client = createClient(EmbeddingService, transport);

type Opening = { onOpen: (imageId: string) => void; onStop: () => void };

/** The images most similar to a stored one. */
export function StoredSimilar({ imageId, onOpen, onStop }: { imageId: string } & Opening) {
  const found = useQuery(EmbeddingService.method.findSimilarImages, {
    imageId,
    limit: MAX_SIMILAR,
  });
  return (
    <>
      <Group>
        <div style={{ width: PREVIEW_PX }}>
          <Picture imageId={imageId} widthPx={320} alt="" height={PREVIEW_PX} />
        </div>
        <Text>{texts.library.similarTo}</Text>
        <Button variant="default" onClick={onStop}>
          {texts.library.stopSimilar}
        </Button>
      </Group>
      <Answered query={found}>{(answer) => <Found answer={answer} onOpen={onOpen} />}</Answered>
    </>
  );
}

/** The stored images most similar to a picture that is not stored. */
export function SentSimilar({ picture, onOpen, onStop }: { picture: File } & Opening) {
  const url = useBlobUrl(picture);
  const found = useTask({
    queryKey: ["images-like", picture.name, picture.size, picture.lastModified],
    queryFn: async ({ signal }) => {
      const image = new Uint8Array(await picture.arrayBuffer());
      const source = { case: "image" as const, value: image };
      return client.findImagesLike({ source, limit: MAX_SIMILAR }, { signal });
    },
    staleTime: Number.POSITIVE_INFINITY,
  });
  return (
    <>
      <Group>
        <Preview src={url} alt="" w={PREVIEW_PX} h={PREVIEW_PX} fit="cover" radius="sm" />
        <Text>{texts.library.similarToSent(picture.name)}</Text>
        <Button variant="default" onClick={onStop}>
          {texts.library.stopSimilar}
        </Button>
      </Group>
      <Answered query={found}>{(answer) => <Found answer={answer} onOpen={onOpen} />}</Answered>
    </>
  );
}

function Found({ answer, onOpen }: { answer: SimilarImages; onOpen: (id: string) => void }) {
  const images = answer.images.flatMap(({ image }) => image ?? []);
  const notes = new Map(
    answer.images.map(({ image, similarity }) => [
      image?.imageId ?? "",
      texts.library.similarity(similarity),
    ]),
  );
  if (images.length === 0) return <Empty title={texts.library.noneSimilar} />;
  return <Gallery images={images} notes={notes} onOpen={onOpen} onEnd={() => undefined} />;
}
