import { Grid, Group, Paper, SimpleGrid, Stack, Text } from "@mantine/core";
import { type ReactNode, useState } from "react";
import type { Options } from "../../components/snippets";
import type { Model } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import { bestOf, ModelAnswer } from "./answer";
import { ApiCall } from "./api_call";
import { useChange } from "./change";
import {
  canLocate,
  optionsOf,
  overlayOptions,
  type Source,
  useClassification,
} from "./classification";
import { Keep } from "./keep";
import { OverlayChoice } from "./options";
import { classifyRoute } from "./route";
import { NoOverlay, View } from "./view";

const t = texts.classify;

/** The picture, beside what one or two models say about it. */
export function Results({
  source,
  model,
  compared,
  options,
  threshold,
  isRolledUp,
  settings,
  next,
}: {
  source: Source;
  model: Model | undefined;
  compared: Model | undefined;
  options: Options;
  threshold: number;
  isRolledUp: boolean;
  settings: ReactNode;
  next: ReactNode;
}) {
  const { overlay } = classifyRoute.useSearch();
  const change = useChange();
  const [selected, select] = useState<string>();
  const answer = useClassification(source, options);
  const other = useClassification(source, compared ? optionsOf(compared, isRolledUp) : null);
  const places = useClassification(source, overlay ? overlayOptions(model, overlay) : null);
  const located = places.data?.response.predictions ?? [];
  const shown = located.find(({ category }) => category === selected) ?? located[0];
  const choice = { threshold, isRolledUp };
  return (
    <Grid gap="lg">
      <Grid.Col span={{ base: 12, md: compared ? 4 : 6 }}>
        <Stack>
          <View
            source={source}
            boxes={overlay === "boxes" ? (shown?.boundingBoxes ?? []) : []}
            heatMap={overlay === "heat" ? places.data?.response.heatMap : undefined}
          />
          <OverlayChoice value={overlay} onChange={(chosen) => change({ overlay: chosen })} />
          {overlay && model && !canLocate(model, overlay) && <NoOverlay overlay={overlay} />}
          <Group gap="sm">
            {next}
            <ApiCall
              source={source}
              options={{
                ...options,
                top_k: 5,
                roll_up: isRolledUp,
                ...(threshold > 0 && { confidence_threshold: threshold }),
                ...(overlay === "boxes" && places.data && { bounding_boxes: true }),
                ...(overlay === "heat" && places.data && { explain: true }),
              }}
            />
            <Keep
              key={source.kind === "file" ? source.id : source.uri}
              source={source}
              options={options}
            />
          </Group>
        </Stack>
      </Grid.Col>
      <Grid.Col span={{ base: 12, md: compared ? 8 : 6 }}>
        <Stack>
          <Paper withBorder p="md">
            {settings}
          </Paper>
          <SimpleGrid cols={{ base: 1, sm: compared ? 2 : 1 }}>
            <Paper withBorder p="md">
              <ModelAnswer
                query={answer}
                model={model}
                selected={overlay === "boxes" ? shown?.category : undefined}
                onSelect={overlay === "boxes" ? select : undefined}
                {...choice}
              />
            </Paper>
            {compared && (
              <Paper withBorder p="md">
                <ModelAnswer
                  query={other}
                  model={compared}
                  selected={undefined}
                  onSelect={undefined}
                  {...choice}
                />
              </Paper>
            )}
          </SimpleGrid>
          {compared && answer.data && other.data && (
            <Text size="sm" aria-live="polite">
              {bestOf(answer.data, model, choice) === bestOf(other.data, compared, choice)
                ? t.answer.agree
                : t.answer.differ}
            </Text>
          )}
        </Stack>
      </Grid.Col>
    </Grid>
  );
}
