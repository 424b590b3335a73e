import "@mantine/dropzone/styles.css";

import { useQuery } from "@connectrpc/connect-query";
import { Grid, Paper, SimpleGrid, Stack } from "@mantine/core";
import { useState } from "react";
import { Screen } from "../../components/screen";
import { Answered, Empty } from "../../components/states";
import { MetadataService, type Model } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import { useChange } from "./change";
import { optionsOf, type Source } from "./classification";
import { ModelSelect, nameOf, RollUp, Threshold, useMoving } from "./options";
import { Results } from "./results";
import { classifyRoute } from "./route";
import { FirstSource, NextSource, usePasted } from "./source";

const t = texts.classify;
const ROLL_UP_THRESHOLD = 0.8;

/** Classifies one picture, and shows why the answer is what it is. */
export function Classify() {
  const models = useQuery(MetadataService.method.listModels, { pageSize: 1000 });
  return (
    <Screen title={t.title}>
      <Answered query={models} rows={6}>
        {({ models: found }) => <Bench models={found} />}
      </Answered>
    </Screen>
  );
}

/** Returns the picture that is chosen, by the address or here, and how to choose one. */
function useSource() {
  const { uri } = classifyRoute.useSearch();
  const change = useChange();
  const [file, setFile] = useState<Source | null>(null);
  const onFile = (chosen: File) => {
    setFile((old) => ({ kind: "file", file: chosen, id: old?.kind === "file" ? old.id + 1 : 1 }));
    change({ uri: undefined });
  };
  const onUri = (chosen: string) => {
    setFile(null);
    change({ uri: chosen });
  };
  const source: Source | null = uri ? { kind: "uri", uri } : file;
  return { source, onFile, onUri };
}

function Bench({ models }: { models: Model[] }) {
  const search = classifyRoute.useSearch();
  const change = useChange();
  const { source, onFile, onUri } = useSource();
  usePasted(onFile, onUri);
  const isRolledUp = search.rollUp ?? false;
  const [threshold, move] = useMoving(search.threshold ?? (isRolledUp ? ROLL_UP_THRESHOLD : 0));
  const model = servingModel(models, search.model);
  const options = optionsOf(model, isRolledUp);
  const settings = (
    <Stack gap="md">
      <SimpleGrid cols={{ base: 1, sm: 2 }}>
        <ModelSelect
          label={t.options.model}
          nothing={t.options.modelDefault}
          models={models}
          value={search.model}
          onChange={(name) => change({ model: name })}
        />
        <ModelSelect
          label={t.options.compare}
          nothing={t.options.compareNone}
          models={models}
          value={search.compare}
          onChange={(name) => change({ compare: name })}
        />
      </SimpleGrid>
      <Threshold value={threshold} onMove={move} onStop={(stop) => change({ threshold: stop })} />
      <RollUp
        value={isRolledUp}
        onChange={(isOn) => change({ rollUp: isOn || undefined, threshold: undefined })}
      />
    </Stack>
  );
  if (!source) {
    return (
      <Grid gap="lg">
        <Grid.Col span={{ base: 12, md: 6 }}>
          <FirstSource onFile={onFile} onUri={onUri} />
        </Grid.Col>
        <Grid.Col span={{ base: 12, md: 6 }}>
          <Paper withBorder p="md">
            {settings}
            <Empty title={t.answer.waiting}>{t.answer.waitingHint}</Empty>
          </Paper>
        </Grid.Col>
      </Grid>
    );
  }
  return (
    <Results
      source={source}
      model={model}
      compared={search.compare ? models.find((m) => nameOf(m) === search.compare) : undefined}
      options={options}
      threshold={threshold}
      isRolledUp={isRolledUp}
      settings={settings}
      next={<NextSource onFile={onFile} />}
    />
  );
}

/** Returns the version of a name; without one, the one that serves requests without a version. */
function servingModel(models: Model[], name: string | undefined): Model | undefined {
  if (name) return models.find((model) => nameOf(model) === name);
  return models.find((model) => model.default);
}
