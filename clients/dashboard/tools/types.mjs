// Writes src/gen: the messages and services of the contract, by protoc-gen-es.
//
// The plugin's input is made from the descriptor set that the gateway reads, so that neither protoc nor
// Python is needed. It has no comments; they stand in proto/.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  CodeGeneratorRequestSchema,
  CodeGeneratorResponseSchema,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const descriptor = process.env.DESCRIPTOR ?? join(root, "../../gateway/descriptor.binpb");
const target = join(root, "src/gen");

const { file } = fromBinary(FileDescriptorSetSchema, readFileSync(descriptor));
const request = create(CodeGeneratorRequestSchema, {
  protoFile: file,
  fileToGenerate: file
    .map(({ name }) => name)
    .filter((name) => !name.startsWith("google/protobuf/")),
  parameter: "target=ts",
});
const plugin = spawnSync(process.execPath, [join(root, "node_modules/.bin/protoc-gen-es")], {
  input: toBinary(CodeGeneratorRequestSchema, request),
  maxBuffer: 64 * 1024 * 1024,
});
const response = fromBinary(CodeGeneratorResponseSchema, plugin.stdout);
if (plugin.status !== 0 || response.error) {
  throw new Error(response.error || plugin.stderr.toString());
}
rmSync(target, { recursive: true, force: true });
for (const { name, content } of response.file) {
  mkdirSync(dirname(join(target, name)), { recursive: true });
  writeFileSync(join(target, name), content);
}
