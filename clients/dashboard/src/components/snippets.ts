/** The same call in the five forms that people ask for. */

/** What is called, with what. */
export type Call = {
  /** Where the API is, such as `https://photos.example`. */
  baseUrl: string;
  /** The API key to write out; null for the variable API_KEY. */
  key: string | null;
  source: { kind: "file"; name: string } | { kind: "uri"; uri: string };
  options: Options;
};

/** Only what differs from the default; the names are those of the contract. */
export type Options = {
  model?: string;
  version?: string;
  top_k?: number;
  confidence_threshold?: number;
  roll_up?: boolean;
  bounding_boxes?: boolean;
  explain?: boolean;
};

export type Form = "curl" | "python" | "javascript" | "grpcurl" | "http";

/** Returns the call in a form. */
export function snippet(form: Form, call: Call): string {
  return WRITERS[form](call);
}

const WRITERS: Record<Form, (call: Call) => string> = {
  curl,
  python,
  javascript,
  grpcurl,
  http,
};

function curl({ baseUrl, key, source, options }: Call): string {
  const image =
    source.kind === "file"
      ? `-F ${shellQuoted(`image=@${curlName(source.name)}`)}`
      : `--form-string ${shellQuoted(`image_uri=${source.uri}`)}`;
  const fields = Object.entries(options).map(
    ([name, value]) => `--form-string ${shellQuoted(`${name}=${value}`)}`,
  );
  return [
    "curl",
    authorization("-H", key),
    image,
    ...fields,
    shellQuoted(`${baseUrl}/v1/classify`),
  ].join(" \\\n  ");
}

function python({ baseUrl, key, source, options }: Call): string {
  const words = [
    source.kind === "file" ? quoted(source.name) : `image_uri=${quoted(source.uri)}`,
    ...Object.entries(options).map(([name, value]) => `${name}=${pythonValue(value)}`),
  ];
  return `${key ? "" : "import os\n\n"}from image_categorizer import ImageCategorizationClient

client = ImageCategorizationClient(api_key=${key ? quoted(key) : 'os.environ["API_KEY"]'}, base_url=${quoted(baseUrl)})
result = client.classify_image(${words.join(", ")})
for prediction in result.predictions:
    print(prediction.category, prediction.confidence)
`;
}

function javascript({ baseUrl, key, source, options }: Call): string {
  const image =
    source.kind === "file"
      ? quoted(source.name)
      : source.uri.startsWith("https:")
        ? `new URL(${quoted(source.uri)})`
        : quoted(source.uri);
  const words = Object.entries(options).map(
    ([name, value]) => `${camel(name)}: ${JSON.stringify(value)}`,
  );
  return `import { ImageCategorizer } from "@image-categorizer/client";

const client = new ImageCategorizer({
  apiKey: ${key ? quoted(key) : "process.env.API_KEY"},
  baseUrl: ${quoted(baseUrl)},
});
const result = await client.classifyImage(${[image, ...(words.length ? [`{ ${words.join(", ")} }`] : [])].join(", ")});
for (const { category, confidence } of result.predictions) {
  console.log(category, confidence);
}
`;
}

function grpcurl({ baseUrl, key, source, options }: Call): string {
  const { protocol, host, port, hostname } = new URL(baseUrl);
  const isPlain = protocol === "http:";
  const address = port ? host : `${hostname}:${isPlain ? 80 : 443}`;
  // A quote of the shell ends before the base64 and begins again after it.
  const picture = (name: string) => `'"$(base64 < ${shellQuoted(name)} | tr -d '\\n')"'`;
  const body = (image: string) => JSON.stringify(message(image, options));
  const text =
    source.kind === "file"
      ? shellQuoted(body(PLACE)).replace(PLACE, () => picture(source.name))
      : shellQuoted(JSON.stringify(message(null, options, source.uri)));
  const words = [
    "grpcurl",
    ...(isPlain ? ["-plaintext"] : []),
    authorization("-H", key),
    "-d @",
    address,
    "image_categorizer.v1.ClassifyService/Classify",
  ];
  return `# Where the server's reflection is off: add -protoset gateway/descriptor.binpb
echo ${text} |
  ${words.join(" ")}
`;
}

function http({ baseUrl, key, source, options }: Call): string {
  const body =
    source.kind === "file"
      ? message(`(base64 of ${source.name})`, options)
      : message(null, options, source.uri);
  return `POST /v1/classify HTTP/1.1
Host: ${new URL(baseUrl).host}
Authorization: Bearer ${key ?? "$API_KEY"}
Content-Type: application/json

${JSON.stringify(body, null, 2)}
`;
}

const PLACE = "@image@";

function message(image: string | null, options: Options, uri?: string): object {
  const source = image === null ? { image_uri: uri } : { image };
  return Object.keys(options).length ? { ...source, options } : source;
}

function authorization(flag: string, key: string | null): string {
  return `${flag} "Authorization: Bearer ${key ?? "$API_KEY"}"`;
}

/** Returns the name of a file as curl reads it in a form, where `;` and `,` have a meaning. */
function curlName(name: string): string {
  return /^[\w.-]+$/.test(name) ? name : `"${name.replace(/["\\]/g, "\\$&")}"`;
}

/** Returns a text as one word of a shell, with quotes only where it needs them. */
function shellQuoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Returns a text as Python and JavaScript both write it. */
function quoted(text: string): string {
  return JSON.stringify(text);
}

function pythonValue(value: string | number | boolean): string {
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "number" ? String(value) : quoted(value);
}

function camel(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}
