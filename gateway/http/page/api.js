/** The Images API: requests, their streams of events, and errors as sentences. */

import { remember, remembered } from "./dom.js";

const SILENCE_MILLISECONDS = 60_000; // in a stream: the service says something every 15 s
const ANSWER_MILLISECONDS = 10 * 60_000; // until a stream begins: a slow line takes long to carry a picture

const KEY = "unclip-key";
const ALIAS = "dall-e-2"; // another name of the default
const PATHS = {
  generate: "/v1/images/generations",
  edit: "/v1/images/edits",
  vary: "/v1/images/variations",
  mix: "/v1/images/mix",
  interpolate: "/v1/images/interpolations",
};

/** Something that went wrong, as a sentence. retryAfter: milliseconds, where the service said so. */
export class Problem extends Error {
  constructor(text, { status = 0, retryAfter = 0 } = {}) {
    super(text);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** What is served, the default first: names, and facts of sizes, defaults and limits. */
export async function models() {
  const answer = await send("/v1/models", {});
  const cards = (await answer.json()).data;
  return cards.filter(({ id }) => id !== ALIAS).map(({ id, unclip }) => ({ name: id, ...unclip }));
}

/** Captions with their probabilities, best first. */
export async function rank(blob, captions, model) {
  const form = new FormData();
  if (model) form.append("model", model);
  form.append("image", blob, "picture.png");
  for (const caption of captions) form.append("captions", caption);
  const answer = await send("/v1/images/rank", { method: "POST", body: form });
  return (await answer.json()).data;
}

/**
 * Draw, and hand every event to ``told`` as it comes: {type, picture_index, ...}, the type without its first part.
 *
 * request: {flow, fields, files}; files are blobs by name, and of a mix or an interpolation they are sources in the fields.
 */
export async function draw(request, told, signal) {
  signal.throwIfAborted();
  const control = new AbortController();
  const leave = () => control.abort(signal.reason);
  signal.addEventListener("abort", leave);
  let silence;
  const alive = (milliseconds) => {
    clearTimeout(silence);
    silence = setTimeout(
      () => control.abort(new Problem("The service went silent. Try again.")),
      milliseconds,
    );
  };
  try {
    alive(ANSWER_MILLISECONDS);
    const body = await bodyOf(request);
    const answer = await send(PATHS[request.flow], { method: "POST", signal: control.signal, ...body });
    await read(answer.body, told, () => alive(SILENCE_MILLISECONDS));
  } catch (error) {
    throw control.signal.aborted ? control.signal.reason : error;
  } finally {
    clearTimeout(silence);
    signal.removeEventListener("abort", leave);
    control.abort(); // whatever is left of the answer, so that the service draws no more
  }
}

async function bodyOf({ flow, fields, files }) {
  const wanted = { ...fields, stream: true, progress: true, partial_images: 3 };
  if (flow === "edit" || flow === "vary") {
    const form = new FormData();
    for (const [name, value] of Object.entries(wanted))
      if (value !== undefined) form.append(name, String(value));
    for (const [name, blob] of Object.entries(files)) form.append(name, blob, `${name}.png`);
    return { body: form };
  }
  const coded = async (source) =>
    source.blob ? { image: await base64Of(source.blob) } : { prompt: source.prompt };
  if (flow === "mix") wanted.sources = await Promise.all(fields.sources.map(coded));
  if (flow === "interpolate")
    Object.assign(wanted, { start: await coded(fields.start), end: await coded(fields.end) });
  return { body: JSON.stringify(wanted), headers: { "content-type": "application/json" } };
}

async function base64Of(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}

/** The bytes of base64, as a blob. */
export function blobOf(base64, format) {
  const text = atob(base64);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: `image/${format}` });
}

/** Call with this API key from now on. Whether it can be one: what a header cannot hold is none. */
export function useKey(key) {
  if (!/^[\x21-\x7e]+$/.test(key)) return false;
  remember(KEY, key);
  dispatchEvent(new Event("unclip-key"));
  return true;
}

/** Whether there is an API key. */
export function hasKey() {
  return Boolean(remembered(KEY));
}

async function send(path, options) {
  const key = remembered(KEY);
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw lost();
  }
  if (answer.ok) return answer;
  throw await problemOf(answer);
}

function lost() {
  return navigator.onLine
    ? new Problem("The service does not answer. Nothing is lost; try again in a moment.")
    : new Problem("You are offline. Nothing is lost; try again when you are back.");
}

async function problemOf(answer) {
  const error = (await answer.json().catch(() => null))?.error ?? {};
  return toProblem(
    error,
    answer.status,
    Number(answer.headers.get("retry-after-ms")) || 1000 * Number(answer.headers.get("retry-after")),
  );
}

function toProblem(error, status, retryAfter = 0) {
  const said = error.message ? `${error.message[0].toUpperCase()}${error.message.slice(1)}.` : "";
  if (status === 400)
    return new Problem(
      `The service does not take this: ${said || "it says not why."} Change it and try again.`,
      { status },
    );
  if (status === 401 || status === 403) dispatchEvent(new Event("unclip-key"));
  if (status === 401)
    return new Problem(
      "The service does not know your API key. Give another one (Key, at the top) and try again.",
      { status },
    );
  if (status === 403)
    return new Problem(`Your API key does not allow this. ${said} Ask whoever gave it to you.`, { status });
  if (status === 413)
    return new Problem("The picture's file is too large for the service. Choose a smaller one.", { status });
  if (status === 429)
    return new Problem("The service is full right now.", {
      status,
      retryAfter: retryAfter || 1000,
    });
  if (status === 503)
    return new Problem("A part of the service is not there right now. Try again in a moment.", {
      status,
    });
  if (status === 504)
    return new Problem(
      "It took longer than the service allows. Try again, or ask for fewer or smaller pictures.",
      { status },
    );
  return new Problem(
    `The service failed (${status || "no status"}). ${said} Try again; if it fails again, tell whoever runs it.`,
    { status },
  );
}

async function read(body, told, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  let finished = false;
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch {
      throw lost();
    }
    if (part.done) break;
    alive();
    const blocks = (kept + part.value).split("\n\n");
    kept = blocks.pop();
    for (const block of blocks) finished = (await take(block, told)) || finished;
  }
  if (!finished) throw new Problem("The connection was cut before all was drawn. Try again.");
}

/** Whether this was the last event. */
async function take(block, told) {
  const data = block
    .split("\n")
    .find((line) => line.startsWith("data: "))
    ?.slice(6);
  if (data === undefined) return false;
  if (data === "[DONE]") return true;
  const event = JSON.parse(data);
  if (event.error) throw toProblem(event.error, statusOf(event.error));
  await told({ ...event, type: event.type.split(".").pop() });
  return false;
}

function statusOf({ type, code }) {
  const byCode = { timeout: 504, rate_limit_exceeded: 429, service_unavailable: 503 };
  return byCode[code] ?? { invalid_request_error: 400 }[type] ?? 500;
}
