export const operations = {
  title: "Operations",
  process: (release: string, since: string) => `Release ${release}, running since ${since}`,
  oneOf:
    "These are the figures of the server process that answers, since you opened this page. Prometheus, which reads /metrics, sees all processes.",
  waiting: "The first figures come in two seconds.",
  inFlight: "Calls in progress",
  chunks: "Chunks of your batches that wait",
  messages: "Messages to hand over",
  deliveries: "Webhook deliveries that wait",
  calls: "Calls a second, by status",
  errors: "Errors a second, by reason",
  cache: "Result cache, lookups a second",
  lag: "Event loop is late by",
  images: (model: string) => `${model}: images a second, by outcome`,
  stages: (model: string) => `${model}: 95th percentile of each stage`,
  sizes: (model: string) => `${model}: images of a micro-batch, mean`,
  closes: (model: string) => `${model}: micro-batches a second, by what closed them`,
  queue: "waits",
  decode: "decoding",
  inference: "model",
  median: "median",
  p95: "95th percentile",
  mean: "mean",
  nothing: "Nothing yet.",
  rate: (value: number) =>
    `${value >= 9.95 || value === 0 ? value.toFixed(0) : value.toFixed(1)}/s`,
  length: (value_s: number) =>
    value_s >= 1
      ? `${value_s.toFixed(1)} s`
      : `${(1000 * value_s).toFixed(value_s < 0.00995 ? 1 : 0)} ms`,
  plain: (value: number) => value.toFixed(1),
};
