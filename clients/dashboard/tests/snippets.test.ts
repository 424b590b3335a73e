import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Call, snippet } from "../src/components/snippets";

const HARD_NAME = `it's "a" cat; $HOME, \\ä.jpg`;
const call: Call = {
  baseUrl: "https://photos.example",
  key: "ic_x",
  source: { kind: "file", name: "cat.jpg" },
  options: { model: "resnet", top_k: 3, roll_up: true },
};

/** Returns the words that a shell passes to a program, and what the program reads. */
function run(script: string, program: string): { words: string[]; input: string } {
  const folder = mkdtempSync(join(tmpdir(), "snippet-"));
  const fake = join(folder, program);
  writeFileSync(
    fake,
    `#!/bin/sh\nfor word; do printf '%s\\n' "$word"; done > "${folder}/words"\n${program === "grpcurl" ? `cat > "${folder}/input"` : `: > "${folder}/input"`}\n`,
    { mode: 0o755 },
  );
  writeFileSync(join(folder, HARD_NAME), "picture");
  writeFileSync(join(folder, "cat.jpg"), "picture");
  execFileSync("sh", ["-c", script], {
    cwd: folder,
    env: { PATH: `${folder}:${process.env.PATH}`, API_KEY: "ic_env" },
  });
  return {
    words: readFileSync(join(folder, "words"), "utf8").trimEnd().split("\n"),
    input: readFileSync(join(folder, "input"), "utf8"),
  };
}

describe("the call in curl", () => {
  it("is what a shell runs", () => {
    expect(run(snippet("curl", call), "curl").words).toEqual([
      "-H",
      "Authorization: Bearer ic_x",
      "-F",
      "image=@cat.jpg",
      "--form-string",
      "model=resnet",
      "--form-string",
      "top_k=3",
      "--form-string",
      "roll_up=true",
      "https://photos.example/v1/classify",
    ]);
  });

  it("keeps a name with all that shells and curl read otherwise", () => {
    const hard: Call = {
      ...call,
      key: null,
      source: { kind: "file", name: HARD_NAME },
      options: {},
    };
    const { words } = run(snippet("curl", hard), "curl");
    expect(words[1]).toBe("Authorization: Bearer ic_env");
    expect(words[3]).toBe(`image=@"it's \\"a\\" cat; $HOME, \\\\ä.jpg"`);
  });

  it("sends an address as text: curl would read a file named after an @", () => {
    const uri: Call = {
      ...call,
      source: { kind: "uri", uri: "https://x.example/a?b=@c" },
      options: {},
    };
    expect(run(snippet("curl", uri), "curl").words.slice(2, 4)).toEqual([
      "--form-string",
      "image_uri=https://x.example/a?b=@c",
    ]);
  });
});

describe("the call in grpcurl", () => {
  it("sends the bytes as base64, with the options", () => {
    for (const name of ["cat.jpg", HARD_NAME]) {
      const { words, input } = run(
        snippet("grpcurl", { ...call, source: { kind: "file", name } }),
        "grpcurl",
      );
      expect(words).toEqual([
        "-H",
        "Authorization: Bearer ic_x",
        "-d",
        "@",
        "photos.example:443",
        "image_categorizer.v1.ClassifyService/Classify",
      ]);
      expect(JSON.parse(input)).toEqual({
        image: Buffer.from("picture").toString("base64"),
        options: { model: "resnet", top_k: 3, roll_up: true },
      });
    }
  });

  it("needs no TLS where the page has none", () => {
    const plain = snippet("grpcurl", { ...call, baseUrl: "http://localhost:8080" });
    expect(plain).toContain("grpcurl -plaintext ");
    expect(plain).toContain(" localhost:8080 ");
  });
});

describe("the call in other forms", () => {
  it("writes values as each language does", () => {
    expect(snippet("python", call)).toContain(
      'client.classify_image("cat.jpg", model="resnet", top_k=3, roll_up=True)',
    );
    expect(snippet("javascript", call)).toContain(
      'client.classifyImage("cat.jpg", { model: "resnet", topK: 3, rollUp: true })',
    );
    expect(snippet("python", { ...call, key: null })).toContain('os.environ["API_KEY"]');
    expect(snippet("javascript", { ...call, key: null })).toContain("process.env.API_KEY");
  });

  it("is a request of HTTP with a body of JSON", () => {
    const [head, body] = snippet("http", call).split("\n\n");
    expect(head).toContain("Host: photos.example\nAuthorization: Bearer ic_x");
    expect(JSON.parse(body ?? "")).toEqual({
      image: "(base64 of cat.jpg)",
      options: { model: "resnet", top_k: 3, roll_up: true },
    });
  });
});
