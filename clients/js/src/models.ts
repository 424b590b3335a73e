import { type CallOptions, type Connection, path, split } from "./connection.js";
import type * as wire from "./generated/types.js";
import type { Version } from "./options.js";

/** Which version of a model is meant; default: the one that answers requests without a version. */
export interface VersionOptions extends CallOptions {
  version?: Version | undefined;
}

/** The models of the server: `client.models`. */
export class Models {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Yields every version of every model, by name and version. */
  list(call: CallOptions = {}): AsyncGenerator<wire.Model> {
    const request = { ...call, path: "/v1/models" };
    return this.#connection.list(request, (page: wire.ListModelsResponse) => page.models);
  }

  /** Returns one version of a model. */
  get(model: string, options: VersionOptions = {}): Promise<wire.Model> {
    const [call, query] = split(options);
    return this.#connection.call({ ...call, path: path`/v1/models/${model}`, query });
  }

  /** Loads one version, by default the newest, and returns it once it answers. For admins. */
  load(model: string, options: VersionOptions = {}): Promise<wire.Model> {
    return this.#changed(path`/v1/models/${model}:load`, options);
  }

  /** Stops serving one version, and frees its memory. For admins. */
  unload(model: string, version: Version, call: CallOptions = {}): Promise<wire.Model> {
    return this.#changed(path`/v1/models/${model}:unload`, { ...call, version });
  }

  /**
   * Points an alias to a version; an empty `version` removes it. For admins.
   *
   * @throws {PromotionRefused} the model has a promotion policy, and the version has not passed it.
   */
  setAlias(
    model: string,
    alias: string,
    version: Version,
    options: { canaryPercent?: number | undefined } & CallOptions = {},
  ): Promise<wire.Model> {
    return this.#changed(path`/v1/models/${model}:setAlias`, { ...options, alias, version });
  }

  /** Yields the categories of a model, in its order. Default: those of the server's default model. */
  categories(model = "", options: VersionOptions = {}): AsyncGenerator<wire.Category> {
    const [call, query] = split(options);
    const request = { ...call, path: "/v1/categories", query: { ...query, model } };
    return this.#connection.list(request, (page: wire.ListCategoriesResponse) => page.categories);
  }

  /** Returns whether what a version predicts has changed, in the caller's tenant. */
  drift(
    model: string,
    options: Omit<wire.GetDriftRequest, "model" | "version"> & VersionOptions = {},
  ): Promise<wire.Drift> {
    const [call, query] = split(options);
    return this.#connection.call({ ...call, path: path`/v1/models/${model}:drift`, query });
  }

  #changed<T extends CallOptions>(at: string, options: T): Promise<wire.Model> {
    const [call, json] = split(options);
    return this.#connection.call({ ...call, method: "POST", path: at, json });
  }
}
