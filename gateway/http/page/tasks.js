/** Drawings under way and done: each is a request to the service, kept with its pictures so that nothing is lost. */

import { blobOf, draw, Problem } from "./api.js";
import * as db from "./db.js";
import { announce, newId } from "./dom.js";
import { heldNames, hold } from "./locks.js";
import { progressText, shareOf } from "./progress.js";

const PATIENCE_MILLISECONDS = 15 * 60_000; // in which a full service is asked again
const LOOK_MILLISECONDS = 3000; // between looks at what another tab does
const tasks = new Map(); // by id

/**
 * One drawing. Its "change" event says that something of it is new.
 *
 * record: what is kept of it. elsewhere: another tab is drawing it. waiting: what it waits for, in words.
 */
export class Task extends EventTarget {
  control = null;
  elsewhere = false;
  waiting = "";

  constructor(record) {
    super();
    this.record = record;
    this.tiles = Array.from({ length: record.count }, () => ({
      text: "",
      share: 0,
      preview: null,
      picture: null,
    }));
    this.findPictures();
  }

  get running() {
    return this.control !== null;
  }

  get missing() {
    return this.tiles.flatMap((tile, index) => (tile.picture || tile.deleted ? [] : [index]));
  }

  /** Whether all of its pictures were deleted. */
  get gone() {
    return this.tiles.every(({ deleted }) => deleted);
  }

  get canRun() {
    return !this.running && !this.elsewhere && this.missing.length > 0;
  }

  /** Take over what pictures there are, and let go of those that were deleted. */
  findPictures() {
    const found = new Map();
    for (const picture of db.allPictures())
      if (picture.task === this.record.id) found.set(picture.index, picture);
    this.tiles.forEach((tile, index) => {
      tile.deleted = !found.has(index) && Boolean(this.record.deleted?.includes(index));
      tile.picture = found.get(index) ?? null;
    });
  }

  /** Draw what is missing. Returns when that is done, or has failed. */
  async run() {
    if (!this.canRun) return;
    this.control = new AbortController();
    const leave = await hold(lockOf(this.record));
    if (!leave) {
      this.control = null;
      this.drawnElsewhere();
      return;
    }
    this.#note("running", "");
    try {
      this.control.signal.throwIfAborted();
      await this.#untilDone();
      this.control = null;
      this.#note("done", "");
      announce(`Done: ${this.record.title}`);
    } catch (error) {
      this.#failed(error);
    } finally {
      leave();
    }
  }

  /** Another tab is drawing it; look now and then whether it still is. */
  async drawnElsewhere() {
    this.elsewhere = true;
    this.#changed();
    while ((await heldNames()).has(lockOf(this.record)))
      await new Promise((resolve) => setTimeout(resolve, LOOK_MILLISECONDS));
    Object.assign(this.record, await db.get("tasks", this.record.id));
    this.elsewhere = false;
    if (this.record.state === "running") interrupt(this.record);
    this.findPictures();
    this.#changed();
  }

  cancel() {
    this.control?.abort(new Problem("Cancelled."));
  }

  async #untilDone() {
    const began = Date.now();
    while (this.missing.length) {
      try {
        await this.#once();
      } catch (error) {
        if (error?.status !== 429 || Date.now() - began > PATIENCE_MILLISECONDS) throw error;
        await this.#wait(error.retryAfter);
      }
    }
  }

  #failed(error) {
    const cancelled = this.control.signal.aborted;
    this.control = null;
    this.waiting = "";
    const known = error instanceof Problem;
    if (!cancelled && !known) console.error(error);
    const text = known ? error.message : "Something in this page failed. Reload it; your pictures are kept.";
    this.#note(cancelled ? "cancelled" : "failed", cancelled ? "Cancelled." : this.#withWhatCame(text));
    announce(this.record.problem);
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
    if (this.missing.length === missing.length) throw new Problem("The service sent no picture. Try again.");
  }

  async #take(event, index) {
    const tile = this.tiles[index];
    this.waiting = "";
    if (!tile || tile.picture || tile.deleted) return;
    if (event.type === "queued") tile.text = event.position ? `waiting: place ${event.position}` : "next";
    if (event.type === "progress") {
      tile.text = progressText(event);
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
    Object.assign(this.tiles[index], { picture, preview: null });
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

/** Begin a drawing. title: what a person calls it. */
export function begin(flow, title, fields, files = {}) {
  const seed = fields.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
  const record = {
    id: newId(),
    created: Date.now(),
    title,
    count: flow === "interpolate" ? fields.frames : fields.n,
    request: { flow, fields: { ...fields, seed }, files },
    state: "running",
    problem: "",
  };
  const task = new Task(record);
  tasks.set(record.id, task);
  task.run();
  return task;
}

/** The drawing with this id, or null. There is one object for it. */
export async function taskOf(id) {
  if (tasks.has(id)) return tasks.get(id);
  const record = await db.get("tasks", id);
  return record ? taskFrom(record, await heldNames()) : null;
}

/** Drawings of earlier visits, newest first. Those that were under way, and are nowhere now, were interrupted. */
export async function earlier(most) {
  const records = (await db.all("tasks")).sort((a, b) => b.created - a.created).slice(0, most);
  const held = await heldNames();
  return records.map((record) => taskFrom(record, held));
}

function taskFrom(record, held) {
  if (tasks.has(record.id)) return tasks.get(record.id);
  const task = new Task(record);
  if (held.has(lockOf(record))) task.drawnElsewhere();
  else if (record.state === "running") interrupt(record);
  tasks.set(record.id, task);
  return task;
}

function interrupt(record) {
  Object.assign(record, { state: "failed", problem: "It was interrupted when the page was left." });
}

/** Forget a drawing; its pictures stay. */
export async function forget(task) {
  task.cancel();
  tasks.delete(task.record.id);
  await db.remove("tasks", task.record.id);
}

db.changes.addEventListener("pictures", () => {
  for (const task of tasks.values()) {
    task.findPictures();
    task.dispatchEvent(new Event("change"));
  }
});

// Another tab has begun, or ended, or removed a drawing.
db.changes.addEventListener("tasks", async ({ detail: id }) => {
  const task = tasks.get(id);
  if (!task || task.running) return;
  const record = await db.get("tasks", id);
  if (record) Object.assign(task.record, record);
  task.findPictures();
  if (!task.elsewhere && (await heldNames()).has(lockOf(task.record))) task.drawnElsewhere();
  task.dispatchEvent(new Event("change"));
});
