/** A drawing's exact request, for programs: curl, Python and gRPC. Pictures stand there as the names of files. */

import { hasKey } from "./api.js";

const PATHS = {
  generate: "generations",
  edit: "edits",
  vary: "variations",
  mix: "mix",
  interpolate: "interpolations",
};
const METHODS = {
  generate: "Generate",
  edit: "Inpaint",
  vary: "Vary",
  mix: "Mix",
  interpolate: "Interpolate",
};
const CALLS = { generate: "generate", edit: "edit", vary: "create_variation" }; // of OpenAI's client
const NAMED = new Set(["prompt", "n", "size", "output_format"]); // what these calls have names for
const FORMATS = { png: "OUTPUT_FORMAT_PNG", jpeg: "OUTPUT_FORMAT_JPEG", webp: "OUTPUT_FORMAT_WEBP" };
const FILE = "\ue000"; // before a file's name: stands for its base64; nobody types this
const FILE_IN_JSON = /"\ue000(picture-\d\.png)"/g;

/** [[name, blob], ...]: the pictures that a request has, by the names that the snippets give them. */
export function picturesOf({ fields, files }) {
  const sources = [...(fields.sources ?? []), fields.start, fields.end].filter((source) => source?.blob);
  const blobs = [...Object.values(files), ...sources.map(({ blob }) => blob)];
  return blobs.map((blob, index) => [`picture-${index + 1}.png`, blob]);
}

/** [[language, text], ...] of a request. */
export function snippets(request) {
  return [
    ["curl", curl(request)],
    ["Python", python(request)],
    ["gRPC", grpc(request)],
  ];
}

function curl({ flow, fields, files }) {
  const url = `${location.origin}/v1/images/${PATHS[flow]}`;
  if (flow === "edit" || flow === "vary") {
    const given = entries(fields).map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`);
    const pictures = Object.keys(files).map((name, index) => `-F ${name}=@picture-${index + 1}.png`);
    return [`curl ${url}${key()}`, ...pictures, ...given].join(" \\\n  ");
  }
  return `curl ${url}${key()} -H 'content-type: application/json' -d @- <<END\n${document(body(fields, "image"))}\nEND`;
}

function python({ flow, fields, files }) {
  const imports = hasKey() ? "import os\n\nimport openai" : "import openai";
  const secret = hasKey() ? 'os.environ["UNCLIP_TOKEN"]' : '"none"';
  const head = `${imports}\n\nclient = openai.OpenAI(base_url="${location.origin}/v1", api_key=${secret})\n`;
  if (!CALLS[flow]) {
    const coded = JSON.stringify(body(fields, "image"), null, 4).replace(FILE_IN_JSON, 'picture("$1")');
    const read = `def picture(name):\n    with open(name, "rb") as file:\n        return base64.b64encode(file.read()).decode()\n`;
    return `import base64\n\n${head}\n\n${read}\n\nanswer = client.post("/images/${PATHS[flow]}", cast_to=dict, body=${coded})\nprint(answer["data"])\n`;
  }
  const named = new Set([...NAMED].filter((name) => flow !== "vary" || name !== "output_format"));
  const given = entries(fields);
  const extra = Object.fromEntries(given.filter(([name]) => !named.has(name)));
  const lines = [
    ...Object.keys(files).map((name, index) => `    ${name}=open("picture-${index + 1}.png", "rb"),`),
    ...given
      .filter(([name]) => named.has(name))
      .map(([name, value]) => `    ${name}=${JSON.stringify(value)},`),
    `    extra_body=${JSON.stringify(extra)},`,
  ];
  return `${head}answer = client.images.${CALLS[flow]}(\n${lines.join("\n")}\n)\nprint(answer.data)\n`;
}

function grpc({ flow, fields, files }) {
  const { n, seed, steps, guidance, negative_prompt, output_format, size, ...rest } = fields;
  const options = {
    n,
    seed: String(seed),
    decoder_steps: steps,
    decoder_guidance: guidance,
    negative_prompt,
  };
  const message = {
    ...body(rest, "picture"),
    ...(Object.keys(files).length ? { picture: `${FILE}picture-1.png` } : {}),
    ...shaped(size),
    options: cleaned(options),
    output: output_format && { format: FORMATS[output_format] },
  };
  const plain = location.protocol === "http:" ? " -plaintext" : "";
  const where = `${location.hostname}:50051`; // as a rule; the page cannot know
  return `grpcurl${plain}${key()} -max-msg-sz 100000000 -d @ ${where} unclip.v1.ImageService/${METHODS[flow]} <<END\n${document(cleaned(message))}\nEND`;
}

/** How large pictures are drawn, as the contract has it. */
function shaped(size) {
  if (!size || size === "auto") return {};
  const [width, height] = size.split("x").map(Number);
  return width === height ? { size: width } : { shape: { width, height } };
}

/** The fields, with the pictures of sources under their names; name: what a source calls its picture. */
function body({ sources, start, end, ...rest }, name) {
  let count = 0;
  const coded = (source) => {
    if (!source) return undefined;
    if (!source.blob) return { prompt: source.prompt };
    count += 1;
    return { [name]: `${FILE}picture-${count}.png` };
  };
  return cleaned({ ...rest, sources: sources?.map(coded), start: coded(start), end: coded(end) });
}

/** JSON in a shell's here-document: what a person wrote stays as it is, and files are read. */
function document(value) {
  const text = JSON.stringify(value, null, 2).replace(/[\\$`]/g, "\\$&");
  return text.replace(FILE_IN_JSON, "\"$(base64 < $1 | tr -d '\\n')\"");
}

/** The header with the API key, which stands in the environment. */
function key() {
  return hasKey() ? ' -H "authorization: Bearer $UNCLIP_TOKEN"' : "";
}

function entries(fields) {
  return Object.entries(cleaned(fields));
}

function cleaned(fields) {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined && value !== ""),
  );
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
