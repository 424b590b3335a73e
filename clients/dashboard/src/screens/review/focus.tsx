import { ActionIcon, Grid, Group, Stack, Text } from "@mantine/core";
import { IconChevronLeft, IconChevronRight } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { Picture } from "../../components/picture";
import type { ReviewItem } from "../../gen/image_categorizer/v1/review_pb";
import { texts } from "../../texts/en";
import { idOf } from "./judge";
import classes from "./review.module.css";

const PICTURE_PX = 1024;

/** One image, as large as the window allows, with what can be said about it. */
export function Focus({
  item,
  index,
  count,
  onMove,
  children,
}: {
  item: ReviewItem;
  index: number;
  count: number;
  onMove: (step: number) => void;
  children: ReactNode;
}) {
  const image = item.image;
  const model = image?.result?.model;
  return (
    <Grid gap="lg">
      <Grid.Col span={{ base: 12, sm: 8 }}>
        <div className={classes.stage}>
          <Picture
            key={idOf(item)}
            imageId={idOf(item)}
            widthPx={PICTURE_PX}
            alt={texts.review.image(image?.filename ?? "")}
          />
        </div>
        <Group justify="space-between" mt="xs" wrap="nowrap">
          <ActionIcon
            variant="default"
            size="lg"
            aria-label={texts.review.previous}
            disabled={index === 0}
            onClick={() => onMove(-1)}
          >
            <IconChevronLeft size={20} />
          </ActionIcon>
          <Stack gap={0} align="center" miw={0}>
            <Text size="sm" truncate maw="100%">
              {image?.filename || texts.review.place(index + 1, count)}
            </Text>
            <Text size="xs" c="dimmed" ta="center">
              {image?.filename ? `${texts.review.place(index + 1, count)} · ` : ""}
              {texts.review.unsure(item.uncertainty)}
              {item.disagreement !== undefined && ` · ${texts.review.others(item.disagreement)}`}
              {model && ` · ${texts.review.model(model.name, model.version)}`}
            </Text>
          </Stack>
          <ActionIcon
            variant="default"
            size="lg"
            aria-label={texts.review.next}
            disabled={index >= count - 1}
            onClick={() => onMove(1)}
          >
            <IconChevronRight size={20} />
          </ActionIcon>
        </Group>
      </Grid.Col>
      <Grid.Col span={{ base: 12, sm: 4 }}>{children}</Grid.Col>
    </Grid>
  );
}
