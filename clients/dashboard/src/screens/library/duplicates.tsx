import { useInfiniteQuery } from "@connectrpc/connect-query";
import { Button, Group, Paper, Slider, Stack, Text, Title, UnstyledButton } from "@mantine/core";
import { useState } from "react";
import { count } from "../../components/format";
import { Picture } from "../../components/picture";
import { Answered, Empty } from "../../components/states";
import type { DuplicateGroup } from "../../gen/image_categorizer/v1/duplicate_pb";
import { ImageService } from "../../gen/image_categorizer/v1/image_pb";
import { texts } from "../../texts/en";

const PAGE_SIZE = 20;
const DEFAULT_BITS = 4;
const MAX_BITS = 10;
const SIDE_PX = 112;
const MAX_SHOWN = 24;

/** Groups of stored images that look alike, the largest first. */
export function Duplicates({ onOpen }: { onOpen: (imageId: string) => void }) {
  const [bits, setBits] = useState(DEFAULT_BITS);
  const [dragged, setDragged] = useState(DEFAULT_BITS);
  const words = texts.library.duplicates;
  const found = useInfiniteQuery(
    ImageService.method.listDuplicateGroups,
    { pageSize: PAGE_SIZE, pageToken: "", maxDistanceBits: bits },
    {
      pageParamKey: "pageToken",
      getNextPageParam: (last) => last.nextPageToken || undefined,
    },
  );
  return (
    <Stack>
      <Text size="sm" c="dimmed">
        {words.hint}
      </Text>
      <Stack gap={4} maw={280}>
        <Text size="sm" fw={500}>
          {words.distance}: {dragged}
        </Text>
        <Slider
          thumbLabel={words.distance}
          min={0}
          max={MAX_BITS}
          label={null}
          value={dragged}
          onChange={setDragged}
          onChangeEnd={setBits}
        />
      </Stack>
      <Answered query={found}>
        {({ pages }) => {
          const groups = pages.flatMap((page) => page.groups);
          if (groups.length === 0) return <Empty title={words.none}>{words.noneHint}</Empty>;
          return groups.map((group) => (
            <AlikeGroup key={group.imageIds[0]} group={group} onOpen={onOpen} />
          ));
        }}
      </Answered>
      {found.hasNextPage && (
        <Button
          variant="default"
          loading={found.isFetchingNextPage}
          onClick={() => found.fetchNextPage()}
        >
          {texts.common.more}
        </Button>
      )}
    </Stack>
  );
}

function AlikeGroup({ group, onOpen }: { group: DuplicateGroup; onOpen: (id: string) => void }) {
  return (
    <Paper withBorder p="sm">
      <Stack gap="xs">
        <Title order={2} size="h5">
          {texts.library.duplicates.group(count(group.imageCount))}
        </Title>
        <Group gap="xs">
          {group.imageIds.slice(0, MAX_SHOWN).map((imageId) => (
            <UnstyledButton
              key={imageId}
              w={SIDE_PX}
              h={SIDE_PX}
              onClick={() => onOpen(imageId)}
              aria-label={texts.library.openImage(imageId, "")}
            >
              <Picture imageId={imageId} widthPx={320} alt="" height={SIDE_PX} />
            </UnstyledButton>
          ))}
        </Group>
      </Stack>
    </Paper>
  );
}
