/** Keeps canvases in the browser as they change. Each is open in one tab at a time. */

import { Artwork } from "./artwork.js";
import * as db from "./db.js";
import { byId, confirmed, h, newId, say, showDialog, urlOf } from "./dom.js";

const SOON_MILLISECONDS = 300;

/** The canvas that is open. snapshot: tells what there is; restore: takes over what was kept, or null. */
export class Keeper {
  #snapshot;
  #restore;
  #id = null;
  #leave = () => {};
  #timer;
  #saving = Promise.resolve();

  constructor(snapshot, restore) {
    this.#snapshot = snapshot;
    this.#restore = restore;
    document.addEventListener("visibilitychange", () => document.hidden && this.#timer && this.#save());
  }

  /** Open the canvas that was changed last and is not open in another tab, or a new one. */
  async open() {
    const records = await kept();
    for (const record of records) if (await this.#take(record)) return;
    if (records.length)
      say("Your last canvas is open in another tab; this one begins a new one.", { kind: "note" });
    await this.#take({ id: newId() });
  }

  /** Keep what there is, and begin a new one. */
  async fresh() {
    await this.#save();
    await this.#take({ id: newId() });
  }

  /** Have a canvas chosen, or a new one begun. */
  async choose() {
    await this.#save();
    const records = (await kept()).filter(({ pixels }) => pixels);
    const open = (record) => async () => {
      dialog.close();
      if (record.id !== this.#id && !(await this.#take(record))) say("This canvas is open in another tab.");
    };
    const discard = (record, row) => async () => {
      if (
        !(await confirmed(
          "Delete this canvas?",
          "What is on it is lost; pictures in the history stay.",
          "Delete",
        ))
      )
        return;
      await db.remove("canvases", record.id);
      row.remove();
    };
    const rows = records.map((record) => {
      const when = new Date(record.updated).toLocaleString();
      const row = h(
        "li",
        {},
        h("img", { src: urlOf(record.pixels), alt: "" }),
        h(
          "button",
          { type: "button", onclick: open(record) },
          record.id === this.#id ? `This one, ${when}` : `Open, ${when}`,
        ),
        record.id !== this.#id &&
          h(
            "button",
            {
              type: "button",
              class: "quiet",
              "aria-label": `Delete the canvas of ${when}`,
              onclick: (event) => discard(record, event.target.closest("li"))(),
            },
            "Delete",
          ),
      );
      return row;
    });
    const fresh = () => {
      dialog.close();
      this.fresh();
    };
    const begin = h("button", { type: "button", class: "primary", onclick: fresh }, "Begin a new canvas");
    const dialog = showDialog(
      "Canvases",
      h("div", { class: "stack" }, begin, h("ul", { class: "canvases" }, rows)),
    );
  }

  /** Keep what there is, when no more is changing. */
  soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#save(), SOON_MILLISECONDS);
  }

  async #take(record) {
    const leave = await hold(`canvas-${record.id}`);
    if (!leave) return false;
    this.#leave();
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#leave = leave;
    this.#id = record.id;
    this.#restore(record.frame ? { ...record, artwork: await artworkOf(record) } : null);
    return true;
  }

  #save() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#saving = this.#saving.then(() => this.#write());
    return this.#saving;
  }

  async #write() {
    const { artwork, frame, prompt, staged } = this.#snapshot();
    if (artwork.empty && !prompt && !staged) return;
    const id = this.#id;
    const [pixels, marks] = await Promise.all([blobOf(artwork.pixels), blobOf(artwork.marks)]);
    const corners = { pixelsRect: artwork.pixels.rect, marksRect: artwork.marks.rect };
    await db.put("canvases", { id, updated: Date.now(), frame, prompt, staged, pixels, marks, ...corners });
    byId("canvas").dataset.kept = String(Date.now());
  }
}

async function kept() {
  return (await db.all("canvases").catch(() => [])).sort((a, b) => b.updated - a.updated);
}

/** Hold a name that no other tab holds. Resolves to what lets go of it, or to null. */
function hold(name) {
  if (!navigator.locks) return Promise.resolve(() => {});
  return new Promise((resolve) => {
    navigator.locks.request(name, { ifAvailable: true }, (lock) =>
      lock ? new Promise((leave) => resolve(leave)) : resolve(null),
    );
  });
}

function blobOf(layer) {
  if (!layer.canvas) return null;
  return new Promise((resolve) => layer.canvas.toBlob(resolve, "image/png"));
}

async function artworkOf(record) {
  const artwork = new Artwork();
  for (const which of ["pixels", "marks"]) {
    const rect = record[`${which}Rect`];
    if (!record[which] || !rect) continue;
    const bitmap = await createImageBitmap(record[which]);
    artwork[which].draw(rect, (context) => context.drawImage(bitmap, rect.x, rect.y));
    bitmap.close();
  }
  return artwork;
}
