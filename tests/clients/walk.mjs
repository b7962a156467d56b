// What a program in Node.js does with the service; says what came of it as JSON.
import { call, connect, detailsOf, stream } from "../../clients/node/unclip.mjs";

const [address, ...protos] = process.argv.slice(2);
const client = connect(address, protos);
const { pictures } = await call(client, "Generate", {
  prompt: "a fox",
  size: 64,
  options: { n: 2, seed: 7 },
});
const events = [];
for await (const response of stream(client, { generate: { prompt: "a fox", size: 64 } }))
  events.push(response.event);
const error = await call(client, "Generate", { prompt: "" }).catch((failure) => failure);
const full = await call(client, "Generate", { prompt: "a fox", options: { seed: 99 } }).catch(
  (failure) => failure,
);
console.log(
  JSON.stringify({
    seeds: pictures.map((picture) => picture.seed),
    events,
    code: error.code,
    fields: detailsOf(error, protos).fields,
    retryAfter: detailsOf(full, protos).retryAfter,
  }),
);
client.close();
