/** Drawings under way and done: each is a request to the service, kept with its pictures so that nothing is lost. */

import { blobOf, draw, Problem } from "./api.js";
import * as db from "./db.js";
import { announce, newId } from "./dom.js";

const STAGES = {
  text_encoder: "reading the prompt",
  image_encoder: "looking at the picture",
  prior: "imagining",
  decoder: "drawing",
  upsampler: "sharpening",
};
const PATIENCE_MILLISECONDS = 15 * 60_000; // in which a full service is asked again

/** One drawing. Its "change" event says that something of it is new. record: what is kept of it. */
export class Task extends EventTarget {
  constructor(record) {
    super();
    this.record = record;
    this.tiles = Array.from({ length: record.count }, () => ({
      text: "",
      share: 0,
      preview: null,
      picture: null,
    }));
    for (const picture of db.allPictures())
      if (picture.task === record.id && this.tiles[picture.index])
        this.tiles[picture.index].picture = picture;
    this.control = null;
    this.waiting = "";
  }

  get running() {
    return this.control !== null;
  }

  get missing() {
    return this.tiles.flatMap((tile, index) => (tile.picture ? [] : [index]));
  }

  /** Draw what is missing. Returns when that is done, or has failed. */
  async run() {
    this.control = new AbortController();
    const ended = new Promise((resolve) => this.addEventListener("end", resolve, { once: true }));
    navigator.locks?.request(lockOf(this.record), () => ended); // other tabs see that it is under way
    this.#note("running", "");
    const began = Date.now();
    try {
      while (this.missing.length) {
        try {
          await this.#once();
        } catch (error) {
          if (error?.status !== 429 || Date.now() - began > PATIENCE_MILLISECONDS) throw error;
          await this.#wait(error.retryAfter);
        }
      }
      this.control = null;
      this.#note("done", "");
      announce(`Done: ${this.record.title}`);
    } catch (error) {
      const cancelled = this.control.signal.aborted;
      this.control = null;
      this.waiting = "";
      const text =
        error instanceof Problem
          ? error.message
          : "Something in this page failed. Reload it; your pictures are kept.";
      if (!cancelled && !(error instanceof Problem)) console.error(error);
      this.#note(cancelled ? "cancelled" : "failed", cancelled ? "Cancelled." : this.#withWhatCame(text));
      announce(this.record.problem);
    } finally {
      this.dispatchEvent(new Event("end"));
    }
  }

  cancel() {
    this.control?.abort(new Problem("Cancelled."));
  }

  #withWhatCame(text) {
    const came = this.tiles.length - this.missing.length;
    return came ? `${text} ${came} of ${this.tiles.length} pictures came and are kept.` : text;
  }

  async #once() {
    const { flow, fields, files } = this.record.request;
    const missing = this.missing;
    const first = missing[0];
    const asked = { ...fields };
    if (flow !== "interpolate") {
      // Picture i of a request has the seed plus i: so those that are missing can be drawn alone.
      asked.n = missing[missing.length - 1] - first + 1;
      asked.seed = fields.seed + first;
    }
    const offset = flow === "interpolate" ? 0 : first;
    const told = (event) => this.#take(event, event.picture_index + offset);
    await draw({ flow, fields: asked, files }, told, this.control.signal);
    if (this.missing.length === missing.length)
      throw new Problem("The service sent no picture. Try again.", { retryable: true });
  }

  async #take(event, index) {
    const tile = this.tiles[index];
    this.waiting = "";
    if (!tile || tile.picture) return;
    if (event.type === "queued") tile.text = event.position ? `waiting: place ${event.position}` : "next";
    if (event.type === "progress") {
      const frame = event.frames > 1 ? `part ${event.frame + 1} of ${event.frames}: ` : "";
      tile.text = `${frame}${STAGES[event.stage] ?? event.stage}, step ${event.step} of ${event.steps}`;
      tile.share = shareOf(event);
      announce(`Picture ${index + 1}: ${tile.text}`, false);
    }
    if (event.type === "partial_image") tile.preview = blobOf(event.b64_json, event.output_format);
    if (event.type === "completed") await this.#keep(event, index);
    this.#changed();
  }

  async #keep(event, index) {
    const [width, height] = event.size.split("x").map(Number);
    const picture = {
      id: newId(),
      task: this.record.id,
      index,
      created: Date.now(),
      title: this.record.title,
      blob: blobOf(event.b64_json, event.output_format),
      format: event.output_format,
      width,
      height,
      seed: event.seed,
      favourite: false,
      collections: [],
    };
    this.tiles[index].picture = picture;
    this.tiles[index].preview = null;
    if (event.warnings) this.record.warnings = event.warnings;
    await db.put("pictures", picture);
  }

  async #wait(milliseconds) {
    for (let left = Math.ceil(milliseconds / 1000); left > 0; left--) {
      this.waiting = `The service is full; asking again in ${left} s.`;
      this.#changed();
      await second(this.control.signal);
    }
    this.waiting = "";
  }

  #note(state, problem) {
    Object.assign(this.record, { state, problem });
    db.put("tasks", this.record);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Wait for a second, or until it is cancelled. */
function second(signal) {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", leave);
      resolve();
    }, 1000);
    signal.addEventListener("abort", leave, { once: true });
  });
}

function lockOf(record) {
  return `task-${record.id}`;
}

/** How far a picture is, from 0 to 1: drawing is most of it. */
function shareOf({ stage, step, steps, frame, frames }) {
  const within = {
    text_encoder: [0, 0.02],
    image_encoder: [0, 0.02],
    prior: [0.02, 0.1],
    decoder: [0.1, 0.85],
    upsampler: [0.85, 1],
  }[stage] ?? [0, 1];
  const inFrame = within[0] + ((within[1] - within[0]) * step) / steps;
  return frames > 1 && (stage === "decoder" || stage === "upsampler") ? (frame + inFrame) / frames : inFrame;
}

/** Begin a drawing. title: what a person calls it. */
export function begin(flow, title, fields, files = {}) {
  const seed = fields.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
  const count = flow === "interpolate" ? fields.frames : fields.n;
  const record = {
    id: newId(),
    created: Date.now(),
    title,
    count,
    request: { flow, fields: { ...fields, seed }, files },
    state: "running",
    problem: "",
  };
  const task = new Task(record);
  task.run();
  return task;
}

/** Drawings of earlier visits, newest first. Those that were under way were interrupted. */
export async function earlier(most) {
  const records = (await db.all("tasks")).sort((a, b) => b.created - a.created).slice(0, most);
  const held = new Set((await navigator.locks?.query?.())?.held?.map((lock) => lock.name));
  return records.map((record) => {
    if (record.state === "running" && !held.has(lockOf(record)))
      Object.assign(record, { state: "failed", problem: "It was interrupted when the page was left." });
    return new Task(record);
  });
}
