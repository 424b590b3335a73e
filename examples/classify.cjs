// Classifies an image over gRPC, from proto/ alone: no generated code.
// node examples/classify.cjs FILE; API_KEY and, unless it is localhost:8080, ADDRESS in the environment.
const fs = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const proto = path.join(__dirname, "..", "proto");
const definition = protoLoader.loadSync("image_categorizer/v1/classify.proto", {
  includeDirs: [proto],
  keepCase: true,
});
const { ClassifyService } = grpc.loadPackageDefinition(definition).image_categorizer.v1;

const address = process.env.ADDRESS || "localhost:8080";
const client = new ClassifyService(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${process.env.API_KEY}`);

const request = { image: fs.readFileSync(process.argv[2]), options: { top_k: 3 } };
client.Classify(request, metadata, (error, response) => {
  if (error) {
    console.error(error.message);
    process.exit(1);
  }
  for (const { category, confidence } of response.predictions) {
    console.log(category, confidence.toFixed(3));
  }
});
