import { Button, Group, Progress, Select, Stack, Text } from "@mantine/core";
import { IconChartDots } from "@tabler/icons-react";
import { useMay } from "../../api/caller";
import { useCategories } from "../../api/categories";
import { Answered, Empty, ErrorNotice } from "../../components/states";
import type { Reviewed } from "../../evaluation/answers";
import { useReviewed } from "../../evaluation/reviewed";
import type { Model } from "../../gen/image_categorizer/v1/metadata_pb";
import { texts } from "../../texts/en";
import { canServe, familiesOf, servingOf } from "./changes";
import { Flips } from "./flips";
import { Report } from "./report";
import { modelsRoute } from "./route";
import { useRun } from "./run";

const MAX_IMAGES = 500;

/** How good a version is on the images that people have judged, and how it differs from another one. */
export function Evaluation({ models }: { models: readonly Model[] }) {
  const search = modelsRoute.useSearch();
  const navigate = modelsRoute.useNavigate();
  const families = familiesOf(models.filter(canServe));
  const family = families.find(({ name }) => name === search.model) ?? families[0];
  const versions = family?.versions.map(({ version }) => version) ?? [];
  if (!family) return <Empty title={texts.models.noneServes} />;
  const version =
    versions.find((one) => one === search.version) ?? servingOf(family)?.version ?? "";
  const against = versions.find((one) => one === search.against && one !== version);
  const select = (change: Record<string, string | undefined>) =>
    navigate({
      search: { tab: "evaluation", model: family.name, version, ...change } as typeof search,
      replace: true,
    });
  return (
    <Stack gap="lg">
      <Group gap="sm" align="end">
        <Select
          label={texts.models.model}
          data={families.map(({ name }) => name)}
          value={family.name}
          allowDeselect={false}
          onChange={(model) => model && select({ model, version: undefined })}
        />
        <Select
          label={texts.models.version}
          data={versions}
          value={version}
          allowDeselect={false}
          w={120}
          onChange={(chosen) => chosen && select({ version: chosen })}
        />
        <Select
          label={texts.models.against}
          placeholder={texts.models.againstNone}
          data={versions.filter((one) => one !== version)}
          value={against ?? null}
          clearable
          disabled={versions.length < 2}
          w={160}
          onChange={(chosen) => select({ against: chosen ?? undefined })}
        />
      </Group>
      <Runs
        key={`${family.name} ${version} ${against}`}
        model={family.name}
        versions={against ? [against, version] : [version]}
      />
    </Stack>
  );
}

/** Versions to run; the last one is evaluated, one before it is what it is compared with. */
function Runs({ model, versions }: { model: string; versions: string[] }) {
  const mayClassify = useMay("classifier");
  const version = versions.at(-1) ?? "";
  const reviewed = useReviewed();
  const categories = useCategories(model, version);
  const { run, doneCount, stop } = useRun();
  const known = new Set(categories.data?.map(({ category }) => category));
  const usable = (found: Reviewed[]) => found.filter(({ truth }) => known.has(truth));
  if (categories.isError) return <ErrorNotice error={categories.error} />;
  return (
    <Answered
      query={categories.isPending ? { ...reviewed, data: undefined, isPending: true } : reviewed}
    >
      {(found) => {
        const chosen = usable(found).slice(0, MAX_IMAGES);
        if (chosen.length === 0) {
          return (
            <Empty icon={<IconChartDots size={40} aria-hidden />} title={texts.models.noReviewed}>
              {texts.models.noReviewedHint}
            </Empty>
          );
        }
        const total = chosen.length * versions.length;
        const subjects = versions.map((one) => ({ model, version: one }));
        const [before, after] = run.data ?? [];
        const evaluated = after ?? before;
        return (
          <Stack gap="lg">
            <Group gap="md">
              <Button
                loading={run.isPending}
                disabled={!mayClassify}
                onClick={() => run.mutate({ reviewed: chosen, subjects })}
              >
                {texts.models.evaluate}
              </Button>
              {run.isPending && (
                <Button variant="default" onClick={stop}>
                  {texts.common.cancel}
                </Button>
              )}
              <Text size="sm" c="dimmed" maw={620}>
                {texts.models.evaluates(chosen.length, versions.length)}{" "}
                {texts.models.leftOut(found.length - usable(found).length)}
              </Text>
            </Group>
            {run.isPending && (
              <Progress value={(100 * doneCount) / total} aria-label={texts.models.progress} />
            )}
            {run.isError && <ErrorNotice error={run.error} />}
            {evaluated && <Report run={evaluated} />}
            {before && after && (
              <Flips before={before} after={after} versions={versions as [string, string]} />
            )}
          </Stack>
        );
      }}
    </Answered>
  );
}
