import { useMutation, useQuery } from "@connectrpc/connect-query";
import { Button, Group, NumberInput, Stack, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useState } from "react";
import { queries } from "../../api/query";
import { bytes, count, when } from "../../components/format";
import { Rows } from "../../components/rows";
import { Answered, ErrorNotice } from "../../components/states";
import { AdminService } from "../../gen/image_categorizer/v1/admin_pb";
import {
  DataClass,
  type RetentionForecast,
  type RetentionRule,
} from "../../gen/image_categorizer/v1/retention_pb";
import { texts } from "../../texts/en";

const t = texts.access.retention;

/** For how long each kind of data is kept, and what would go. */
export function RetentionRules() {
  const retention = useQuery(AdminService.method.getRetention, {});
  return (
    <Answered query={retention}>
      {({ rules }) => <Form key={rules.map((rule) => rule.days).join()} rules={rules} />}
    </Answered>
  );
}

type Days = Partial<Record<DataClass, number | null>>;

function Form({ rules }: { rules: RetentionRule[] }) {
  const [days, setDays] = useState<Days>(() =>
    Object.fromEntries(rules.map((rule) => [rule.dataClass, daysOf(rule)])),
  );
  const wanted = rules.map(({ dataClass }) => {
    const given = days[dataClass];
    return { dataClass, ...(typeof given === "number" ? { days: given } : {}) };
  });
  const preview = useMutation(AdminService.method.previewRetention);
  const update = useMutation(AdminService.method.updateRetention, {
    onSuccess: async () => {
      notifications.show({ message: t.saved });
      await queries.invalidateQueries();
    },
  });
  const error = preview.error ?? update.error;
  const forecastOf = (dataClass: DataClass) =>
    preview.data?.forecasts.find(({ rule }) => rule?.dataClass === dataClass);
  return (
    <Stack>
      <Rows
        label={texts.access.tabs.retention}
        rows={rules}
        keyOf={(rule) => String(rule.dataClass)}
        columns={[
          { name: t.what, cell: nameOf },
          {
            name: t.days,
            cell: (rule) => (
              <NumberInput
                aria-label={`${t.days}: ${nameOf(rule)}`}
                placeholder={t.byDefault}
                min={0}
                allowDecimal={false}
                value={days[rule.dataClass] ?? ""}
                onChange={(value) =>
                  setDays({ ...days, [rule.dataClass]: typeof value === "number" ? value : null })
                }
              />
            ),
          },
          { name: t.wouldGo, cell: (rule) => goes(forecastOf(rule.dataClass)) },
          {
            name: t.held,
            cell: (rule) => {
              const forecast = forecastOf(rule.dataClass);
              return forecast && count(Number(forecast.heldCount));
            },
          },
          { name: t.oldest, cell: (rule) => when(forecastOf(rule.dataClass)?.oldestTime) },
        ]}
      />
      <Text size="sm" c="dimmed">
        {t.daysHint}
      </Text>
      {error && <ErrorNotice error={error} />}
      <Group>
        <Button
          variant="default"
          loading={preview.isPending}
          onClick={() => preview.mutate({ rules: wanted })}
        >
          {t.preview}
        </Button>
        <Button loading={update.isPending} onClick={() => update.mutate({ rules: wanted })}>
          {t.save}
        </Button>
      </Group>
    </Stack>
  );
}

function daysOf(rule: RetentionRule): number | null {
  return rule.isDefault ? null : (rule.days ?? null);
}

function nameOf(rule: RetentionRule): string {
  const name = DataClass[rule.dataClass];
  return t.classes[name] ?? name;
}

function goes(forecast: RetentionForecast | undefined): string {
  if (!forecast) return "";
  const size = forecast.sizeBytes ? ` (${bytes(Number(forecast.sizeBytes))})` : "";
  return `${count(Number(forecast.count))}${size}`;
}
