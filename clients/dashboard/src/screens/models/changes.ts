import { type Model, Model_State as State } from "../../gen/image_categorizer/v1/metadata_pb";

export const STABLE = "stable";
export const CANARY = "canary";

/** What an administrator does with a version. */
export type Change = {
  kind: "promote" | "rollBack" | "canary" | "removeAlias" | "load" | "unload";
  model: string;
  version: string;
  /** Of `removeAlias`. */
  alias?: string;
};

/** One model with its versions, the newest first. */
export type Family = { name: string; versions: Model[]; isDefault: boolean };

export function familiesOf(models: readonly Model[]): Family[] {
  const families = new Map<string, Family>();
  for (const model of models) {
    const family = families.get(model.name) ?? { name: model.name, versions: [], isDefault: false };
    family.versions.push(model);
    family.isDefault ||= model.default;
    families.set(model.name, family);
  }
  for (const { versions } of families.values()) {
    versions.sort((a, b) => Number(b.version) - Number(a.version));
  }
  return [...families.values()].sort(
    (a, b) => Number(b.isDefault) - Number(a.isDefault) || a.name.localeCompare(b.name, "en"),
  );
}

/** Returns the version with an alias. */
/** Returns the version that requests without a version most likely get: `stable`, or the newest without an alias. */
export function servingOf(family: Family): Model | undefined {
  const plain = family.versions.find((model) => canServe(model) && model.aliases.length === 0);
  return holderOf(family, STABLE) ?? plain ?? family.versions[0];
}

function holderOf(family: Family, alias: string): Model | undefined {
  return family.versions.find(({ aliases }) => aliases.includes(alias));
}

/** Returns the version that served before `stable`: the newest of those before it that can serve. */
export function rollBackTarget(family: Family): Model | undefined {
  const stable = holderOf(family, STABLE);
  if (!stable) return undefined;
  return family.versions.find(
    (model) => Number(model.version) < Number(stable.version) && canServe(model),
  );
}

export function canServe({ state }: Model): boolean {
  return state === State.READY || state === State.STANDBY;
}

/** Returns what can be done with a version. */
export function changesOf(family: Family, model: Model): Change[] {
  const subject = { model: model.name, version: model.version };
  const changes: Change[] = [];
  const isStable = model.aliases.includes(STABLE);
  if (canServe(model) && !isStable) {
    changes.push({ kind: "promote", ...subject });
    if (family.versions.length > 1) changes.push({ kind: "canary", ...subject });
  }
  for (const alias of model.aliases) changes.push({ kind: "removeAlias", alias, ...subject });
  if (model.state === State.UNLOADED || model.state === State.FAILED) {
    changes.push({ kind: "load", ...subject });
  } else if (canServe(model) && model.aliases.length === 0) {
    changes.push({ kind: "unload", ...subject });
  }
  return changes;
}
