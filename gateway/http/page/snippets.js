/** A drawing's exact request, for programs: curl, Python and gRPC. */

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
const FILE = "\ue000picture"; // stands for a file's base64; nobody types this
const FORMATS = { png: "OUTPUT_FORMAT_PNG", jpeg: "OUTPUT_FORMAT_JPEG", webp: "OUTPUT_FORMAT_WEBP" };

/** [[name, text], ...] of a request. Pictures stand there as the names of files. */
export function snippets({ flow, fields, files }) {
  return [
    ["curl", curl(flow, fields, files)],
    ["Python", python(flow, fields, files)],
    ["gRPC", grpc(flow, fields, files)],
  ];
}

function curl(flow, fields, files) {
  const url = `${location.origin}/v1/images/${PATHS[flow]}`;
  if (flow === "edit" || flow === "vary") {
    const parts = [
      ...Object.keys(files).map((name) => `-F ${name}=@${name}.png`),
      ...given(fields).map(([name, value]) => `-F ${quoted(`${name}=${value}`)}`),
    ];
    return [`curl ${url}`, ...parts].join(" \\\n  ");
  }
  return `curl ${url} -H 'content-type: application/json' \\\n  -d @- <<END\n${hereDocument(named(fields))}\nEND`;
}

function python(flow, fields, files) {
  const head = `import openai\n\nclient = openai.OpenAI(base_url="${location.origin}/v1", api_key="none")\n`;
  const own = new Set(["prompt", "n", "size", "output_format"]);
  const call = { generate: "generate", edit: "edit", vary: "create_variation" }[flow];
  if (!call) {
    const body = literal(named(fields)).replaceAll(
      `"${FILE}"`,
      'base64.b64encode(open("picture.png", "rb").read()).decode()',
    );
    return `import base64\n${head}answer = client.post("/images/${PATHS[flow]}", cast_to=dict, body=${body})\n`;
  }
  const plain = given(fields).filter(
    ([name]) => own.has(name) && !(flow === "vary" && name === "output_format"),
  );
  const extra = Object.fromEntries(
    given(fields).filter(([name]) => !plain.some(([other]) => other === name)),
  );
  const lines = [
    ...Object.keys(files).map((name) => `    ${name}=open("${name}.png", "rb"),`),
    ...plain.map(([name, value]) => `    ${name}=${literal(value)},`),
    `    extra_body=${literal(extra)},`,
  ];
  return `${head}answer = client.images.${call}(\n${lines.join("\n")}\n)\nfor picture in answer.data:\n    print(picture.url or picture.b64_json[:40])\n`;
}

function grpc(flow, fields, files) {
  const { n, seed, steps, guidance, negative_prompt, output_format, size, sources, start, end, ...rest } =
    fields;
  const options = cleaned({
    n,
    seed: String(seed),
    decoder_steps: steps,
    decoder_guidance: guidance,
    negative_prompt,
  });
  const side = size && size !== "auto" ? Number(size.split("x")[0]) : undefined;
  const message = cleaned({
    ...rest,
    size: side,
    ...Object.fromEntries(Object.keys(files).map((name) => [name === "image" ? "picture" : name, FILE])),
    sources: sources?.map(sourceOf),
    start: start && sourceOf(start),
    end: end && sourceOf(end),
    options,
    output: output_format && { format: FORMATS[output_format] },
  });
  return `grpcurl -plaintext -max-msg-sz 100000000 -d @ ${location.hostname}:50051 \\\n  unclip.v1.ImageService/${METHODS[flow]} <<END\n${hereDocument(message)}\nEND`;
}

function sourceOf(source) {
  return source.prompt === undefined ? { picture: FILE } : { prompt: source.prompt };
}

/** JSON in a shell's here-document: what a person wrote stays as it is, and files are read. */
function hereDocument(value) {
  const text = JSON.stringify(value, null, 2).replace(/[\\$`]/g, "\\$&");
  return text.replaceAll(FILE, "$(base64 -w0 picture.png)");
}

/** The fields, with FILE where pictures are. */
function named(fields) {
  const coded = (source) => (source.prompt === undefined ? { image: FILE } : { prompt: source.prompt });
  const { sources, start, end, ...rest } = fields;
  return cleaned({
    ...rest,
    sources: sources?.map(coded),
    start: start && coded(start),
    end: end && coded(end),
  });
}

function given(fields) {
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

function literal(value) {
  return JSON.stringify(value, null, typeof value === "object" ? 4 : 0);
}
