import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ModelSchema, Model_State as State } from "../src/gen/image_categorizer/v1/metadata_pb";
import { changesOf, familiesOf, rollBackTarget, servingOf } from "../src/screens/models/changes";

function model(name: string, version: string, state: State, ...aliases: string[]) {
  return create(ModelSchema, { name, version, state, aliases, default: name === "standard" });
}

const families = familiesOf([
  model("fruit", "2", State.READY, "stable"),
  model("fruit", "10", State.READY),
  model("fruit", "1", State.STANDBY),
  model("standard", "1", State.READY),
]);
const [standard, fruit] = families;
if (!standard || !fruit) throw new Error("a family is missing");

describe("the versions of a model", () => {
  it("come with the default model and the newest version first", () => {
    expect(families.map(({ name }) => name)).toEqual(["standard", "fruit"]);
    expect(fruit.versions.map(({ version }) => version)).toEqual(["10", "2", "1"]);
  });

  it("are measured by the one that serves, if nobody chooses", () => {
    expect(servingOf(fruit)?.version).toBe("2");
    const [packaged] = familiesOf([
      model("m", "2", State.READY, "fast"),
      model("m", "1", State.READY),
    ]);
    expect(packaged && servingOf(packaged)?.version).toBe("1");
  });

  it("roll back to the newest version before stable that can serve", () => {
    expect(rollBackTarget(fruit)?.version).toBe("1");
    expect(rollBackTarget(standard)).toBeUndefined();
    const [broken] = familiesOf([
      model("m", "3", State.READY, "stable"),
      model("m", "2", State.FAILED),
      model("m", "1", State.READY),
    ]);
    expect(broken && rollBackTarget(broken)?.version).toBe("1");
  });

  it("offer only what the server would do", () => {
    const kinds = (index: number) => {
      const version = fruit.versions[index];
      return version ? changesOf(fruit, version).map(({ kind }) => kind) : [];
    };
    expect(kinds(0)).toEqual(["promote", "canary", "unload"]);
    expect(kinds(1)).toEqual(["removeAlias"]);
    const failed = model("fruit", "3", State.FAILED);
    expect(changesOf(fruit, failed).map(({ kind }) => kind)).toEqual(["load"]);
    const loading = model("fruit", "3", State.LOADING);
    expect(changesOf(fruit, loading)).toEqual([]);
  });
});
