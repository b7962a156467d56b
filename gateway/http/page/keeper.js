/** Keeps canvases in the browser as they change. Each is open in one tab at a time. */

import { Artwork } from "./artwork.js";
import * as db from "./db.js";
import { byId, confirmed, h, newId, say, showBlob, showDialog } from "./dom.js";
import { hold } from "./locks.js";

const SOON_MILLISECONDS = 300;
const LATEST_MILLISECONDS = 2000; // after the first change
const LAYERS = ["pixels", "marks"];

/** The canvas that is open. snapshot: tells what there is; restore: takes over what was kept, or null. */
export class Keeper {
  #snapshot;
  #restore;
  #id = null;
  #leave = () => {};
  #timer = 0;
  #since = 0; // when something first changed that is not kept yet; 0: all is kept
  #drawn = new Map(); // by layer: {version, blob}, as it was last made a file
  #saving = Promise.resolve(true);

  constructor(snapshot, restore) {
    this.#snapshot = snapshot;
    this.#restore = restore;
    document.addEventListener("visibilitychange", () => document.hidden && this.save());
  }

  get id() {
    return this.#id;
  }

  /** Open the canvas that was changed last and is not open in another tab, or a new one. */
  async open() {
    const records = await kept();
    for (const { id } of records) if (await this.#take(id)) return;
    if (records.length) say("Your canvases are open in other tabs; this is a new one.", { kind: "note" });
    await this.fresh();
  }

  /** Keep what there is, and begin a new one. */
  async fresh() {
    await this.#take(newId());
  }

  /** Have a canvas chosen, or a new one begun. */
  async choose() {
    await this.save();
    const begin = () => {
      dialog.close();
      this.fresh();
    };
    const list = h("ul", { class: "canvases" });
    for (const record of await kept()) list.append(this.#row(record, () => dialog.close()));
    const button = h("button", { type: "button", class: "primary", onclick: begin }, "Begin a new canvas");
    const dialog = showDialog("Canvases", h("div", { class: "stack" }, button, list));
  }

  #row(record, close) {
    const when = new Date(record.updated).toLocaleString();
    const image = h("img", { alt: "" });
    if (record.pixels) showBlob(image, record.pixels);
    const open = async () => {
      close();
      if (record.id !== this.#id && !(await this.#take(record.id))) {
        say("This canvas is open in another tab, or cannot be read.");
      }
    };
    const discard = async () => {
      const text = "What is on it is lost; pictures in the history stay.";
      if (!(await confirmed("Delete this canvas?", text, "Delete"))) return;
      const leave = await hold(lockOf(record.id));
      if (!leave) return say("This canvas is open in another tab. Close it there first.");
      await db.remove("canvases", record.id);
      leave();
      row.remove();
    };
    const own = record.id === this.#id;
    const about = record.prompt ? `, ${record.prompt}` : "";
    const label = `${own ? "This one" : "Open"}: ${when}${about}`;
    const row = h(
      "li",
      {},
      image,
      h("button", { type: "button", onclick: open }, label),
      !own &&
        h(
          "button",
          { type: "button", class: "quiet", "aria-label": `Delete the canvas of ${when}`, onclick: discard },
          "Delete",
        ),
    );
    return row;
  }

  /** Keep what there is when no more is changing, and at least now and then. */
  soon() {
    if (this.#id === null) return;
    const now = Date.now();
    this.#since ||= now;
    clearTimeout(this.#timer);
    const left = Math.max(0, this.#since + LATEST_MILLISECONDS - now);
    this.#timer = setTimeout(() => this.save(), Math.min(SOON_MILLISECONDS, left));
  }

  /** Keep what there is. Resolves when that is done: whether it was. */
  save() {
    clearTimeout(this.#timer);
    if (!this.#since) return this.#saving;
    this.#since = 0;
    const id = this.#id;
    const parts = this.#parts(this.#snapshot());
    const failed = (error) => {
      console.error(error);
      say("The browser cannot keep this canvas. Export it before you leave.", { topic: "canvas" });
      if (id === this.#id) this.#since ||= Date.now();
      return false;
    };
    this.#saving = this.#saving.then(() => this.#write(id, parts)).then(() => true, failed);
    return this.#saving;
  }

  /** What is to be kept, as it is now: files of layers are begun at once, and are there later. */
  #parts({ artwork, frame, prompt, staged }) {
    const layers = LAYERS.map((name) => {
      const layer = artwork[name];
      const { version, rect } = layer;
      const known = this.#drawn.get(name);
      const blob = known?.version === version ? known.blob : blobOf(layer);
      return { name, version, rect, blob };
    });
    return { layers, empty: layers.every(({ rect }) => !rect), frame, prompt, staged };
  }

  /** Open a canvas instead of the one that is open. Whether that worked. */
  async #take(id) {
    const section = byId("canvas");
    section.inert = true; // what would be done now would be of neither canvas
    try {
      return await this.#swap(id);
    } finally {
      section.inert = false;
    }
  }

  async #swap(id) {
    const leave = await hold(lockOf(id));
    if (!leave) return false;
    let record;
    let artwork = null;
    try {
      record = await db.get("canvases", id);
      if (record) artwork = await artworkOf(record);
    } catch (error) {
      console.warn(error);
      leave();
      return false;
    }
    if (!(await this.save())) {
      leave();
      return false;
    }
    // From here on nothing waits: whatever changes now is of the new canvas.
    this.#leave();
    this.#leave = leave;
    this.#id = id;
    this.#drawn.clear();
    for (const name of LAYERS) {
      if (artwork) this.#drawn.set(name, { version: artwork[name].version, blob: record[name] });
    }
    this.#restore(record ? { ...record, artwork } : null);
    clearTimeout(this.#timer);
    this.#since = 0;
    return true;
  }

  async #write(id, { layers, empty, frame, prompt, staged }) {
    if (empty && !prompt && !staged) return db.remove("canvases", id);
    const record = { id, updated: Date.now(), frame, prompt, staged };
    for (const { name, version, rect, blob } of layers) {
      record[name] = await blob;
      record[`${name}Rect`] = rect;
      if (id === this.#id) this.#drawn.set(name, { version, blob: record[name] });
    }
    await db.put("canvases", record);
    byId("canvas").dataset.kept = String(Date.now());
  }
}

function lockOf(id) {
  return `canvas-${id}`;
}

async function kept() {
  return (await db.all("canvases")).sort((a, b) => b.updated - a.updated);
}

async function blobOf(layer) {
  if (!layer.canvas) return null;
  const blob = await new Promise((resolve) => layer.canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new Error("the browser makes no file of this canvas");
  return blob;
}

async function artworkOf(record) {
  const artwork = new Artwork();
  for (const name of LAYERS) {
    const rect = record[`${name}Rect`];
    if (!record[name] || !rect) continue;
    const bitmap = await createImageBitmap(record[name]);
    artwork[name].draw(rect, (context) => context.drawImage(bitmap, rect.x, rect.y));
    bitmap.close();
  }
  return artwork;
}
