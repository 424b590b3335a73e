import { createClient } from "@connectrpc/connect";
import { type UseQueryResult, useQuery } from "@tanstack/react-query";
import { transport } from "../../api/transport";
import type { Options } from "../../components/snippets";
import { type ClassifyResponse, ClassifyService } from "../../gen/image_categorizer/v1/classify_pb";
import { type Model, Model_Localization } from "../../gen/image_categorizer/v1/metadata_pb";

const client = createClient(ClassifyService, transport);
const SHOWN = 20;
const LOCATED = 10;

/** The picture to classify. */
export type Source = { kind: "file"; file: File; id: number } | { kind: "uri"; uri: string };

/** An answer, and how long it took as seen from here. */
export type Answer = {
  response: ClassifyResponse;
  /** From the call to the answer, in milliseconds. */
  totalMs: number;
};

/** Returns the options of the call that fills the bars. The threshold is applied here, so that it acts at once. */
export function optionsOf(model: Model | undefined, isRolledUp: boolean): Options {
  return {
    ...(model && { model: model.name, version: model.version }),
    // All of them: the confidences of broader categories are made from them here.
    top_k: isRolledUp ? (model?.categoryCount ?? SHOWN) : SHOWN,
    roll_up: false,
  };
}

/** Classifies the picture by a model; asks again only for what has not been answered. */
export function useClassification(
  source: Source | null,
  options: Options | null,
): UseQueryResult<Answer> {
  return useQuery({
    queryKey: ["classify", keyOf(source), options],
    queryFn: async ({ signal }) => {
      const begin = performance.now();
      const response = await classify(source as Source, options as Options, { signal });
      return { response, totalMs: performance.now() - begin };
    },
    enabled: source !== null && options !== null,
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: (previous, query) =>
      query?.queryKey[1] === keyOf(source) ? previous : undefined,
  });
}

/** Returns the options of the call that says where a category is; null if the model cannot. */
export function overlayOptions(
  model: Model | undefined,
  overlay: "boxes" | "heat",
): Options | null {
  if (!model || !canLocate(model, overlay)) return null;
  return {
    model: model.name,
    version: model.version,
    roll_up: false,
    ...(overlay === "boxes"
      ? { top_k: LOCATED, bounding_boxes: true }
      : { top_k: 1, explain: true }),
  };
}

/** Whether a model says where a category is, in this way. */
export function canLocate(model: Model, overlay: "boxes" | "heat"): boolean {
  if (overlay === "boxes")
    return model.localization !== Model_Localization.LOCALIZATION_UNSPECIFIED;
  return (
    model.localization === Model_Localization.CLASS_ACTIVATION ||
    model.localization === Model_Localization.ATTENTION_ROLLOUT
  );
}

/** Classifies the picture once more, and keeps it in the library. */
export async function keep(source: Source, options: Options): Promise<ClassifyResponse> {
  return classify(source, { ...options, top_k: 5 }, {}, true);
}

async function classify(
  source: Source,
  options: Options,
  call: { signal?: AbortSignal },
  store = false,
): Promise<ClassifyResponse> {
  return client.classify(
    {
      source:
        source.kind === "file"
          ? { case: "image", value: new Uint8Array(await source.file.arrayBuffer()) }
          : { case: "imageUri", value: source.uri },
      filename: source.kind === "file" ? source.file.name.slice(-255) : "",
      options: {
        model: options.model ?? "",
        version: options.version ?? "",
        ...(options.top_k !== undefined && { topK: options.top_k }),
        ...(options.roll_up !== undefined && { rollUp: options.roll_up }),
        boundingBoxes: options.bounding_boxes ?? false,
        explain: options.explain ?? false,
        store,
      },
    },
    call,
  );
}

function keyOf(source: Source | null): string | number | null {
  return source && (source.kind === "file" ? source.id : source.uri);
}
