// A client of unclip for Node.js, from the published contract.
//
//   npm install @grpc/grpc-js @grpc/proto-loader google-proto-files
//
//   const protos = ["protos", "node_modules/google-proto-files"];
//   const client = connect("127.0.0.1:50051", protos);
//   const { pictures } = await call(client, "Generate", { prompt: "a fox on a sandy beach" });
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const OPTIONS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const DETAILS = "grpc-status-details-bin";

/** The service at an address, which is a name and port. protos: the folders of the contract and of google/rpc. */
export function connect(address, protos, credentials = grpc.credentials.createInsecure()) {
  const loaded = loader.loadSync("unclip/v1/image_service.proto", { ...OPTIONS, includeDirs: protos });
  const { ImageService } = grpc.loadPackageDefinition(loaded).unclip.v1;
  return new ImageService(address, credentials, { "grpc.max_receive_message_length": -1 });
}

/** The answer of a unary method. seconds: until its deadline. */
export function call(client, method, request, seconds = 600) {
  const deadline = new Date(Date.now() + 1000 * seconds);
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** What happens to a request's pictures: an async iterable. Leaving early cancels the work. */
export async function* stream(client, request, seconds = 600) {
  const call = client.Stream(request, { deadline: new Date(Date.now() + 1000 * seconds) });
  try {
    yield* call;
  } finally {
    call.on("error", () => {}); // of the cancellation, which nobody reads
    call.cancel();
  }
}

/** What a program can read of an error: {fields: {name: what is wrong}, retryAfter: seconds or null}. */
export function detailsOf(error, protos) {
  const found = { fields: {}, retryAfter: null };
  const [raw] = error.metadata?.get(DETAILS) ?? [];
  if (!raw) return found;
  const rpc = loader.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"], {
    ...OPTIONS,
    includeDirs: protos,
  });
  const read = (type, bytes) => rpc[`google.rpc.${type}`].deserialize(bytes);
  for (const detail of read("Status", raw).details) {
    const type = detail.type_url.split("google.rpc.")[1];
    if (type === "BadRequest") {
      for (const v of read(type, detail.value).field_violations) found.fields[v.field] = v.description;
    } else if (type === "RetryInfo") {
      const delay = read(type, detail.value).retry_delay;
      found.retryAfter = Number(delay.seconds) + delay.nanos / 1e9;
    }
  }
  return found;
}
