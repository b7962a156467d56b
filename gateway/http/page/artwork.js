/** What is on a canvas: pixels and marks in one endless plane, and the way back. Rectangles are {x, y, width, height} in its px. */

import { union } from "./geometry.js";

const MOST_SIDE = 8192;
const MOST_PIXELS = 16 * 2 ** 20; // what every browser draws on, phones too
const MOST_STEPS = 40; // back
const MOST_KEPT = 48 * 2 ** 20; // pixels that the way back takes
export const MARK = "#db2777";

function newCanvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** A bitmap somewhere in the plane, which grows as it is drawn on. rect: null while it is empty. */
class Layer {
  rect = null;
  canvas = null;
  version = 0; // rises whenever it is drawn on

  /** Raises an Error if it cannot grow to hold a rectangle too. */
  check(rect) {
    const wanted = union(this.rect, rect);
    if (
      wanted.width <= MOST_SIDE &&
      wanted.height <= MOST_SIDE &&
      wanted.width * wanted.height <= MOST_PIXELS
    )
      return;
    throw new Error(
      `A canvas holds up to ${MOST_SIDE} px a side and ${MOST_PIXELS / 2 ** 20} megapixels. Export this one and begin a new one for what lies further away.`,
    );
  }

  grow(rect) {
    const wanted = union(this.rect, rect);
    if (this.rect && wanted.width === this.rect.width && wanted.height === this.rect.height) return;
    this.check(rect);
    const canvas = newCanvas(wanted.width, wanted.height);
    if (this.canvas)
      canvas.getContext("2d").drawImage(this.canvas, this.rect.x - wanted.x, this.rect.y - wanted.y);
    this.canvas = canvas;
    this.rect = wanted;
  }

  /** Draw with a context whose coordinates are the plane's. */
  draw(rect, work) {
    this.grow(rect);
    this.version += 1;
    const context = this.canvas.getContext("2d");
    context.save();
    context.translate(-this.rect.x, -this.rect.y);
    context.beginPath();
    context.rect(rect.x, rect.y, rect.width, rect.height);
    context.clip();
    work(context);
    context.restore();
  }

  /** A copy of a rectangle of it, transparent where it has nothing. */
  copy({ x, y, width, height }) {
    const canvas = newCanvas(width, height);
    if (this.canvas) canvas.getContext("2d").drawImage(this.canvas, this.rect.x - x, this.rect.y - y);
    return canvas;
  }

  replace(rect, canvas) {
    this.draw(rect, (context) => {
      context.clearRect(rect.x, rect.y, rect.width, rect.height);
      context.drawImage(canvas, rect.x, rect.y);
    });
  }
}

/** Pixels and marks. Its "change" event says that something of it is new. */
export class Artwork extends EventTarget {
  pixels = new Layer();
  marks = new Layer();
  #back = [];
  #forth = [];

  get empty() {
    return this.pixels.rect === null;
  }

  get canUndo() {
    return this.#back.length > 0;
  }

  get canRedo() {
    return this.#forth.length > 0;
  }

  /** Put a picture into a rectangle, which has no marks then. */
  place(image, rect) {
    this.#change(rect, (which) => {
      if (which === "marks") return (context) => context.clearRect(rect.x, rect.y, rect.width, rect.height);
      return (context) => {
        context.imageSmoothingQuality = "high";
        context.drawImage(image, rect.x, rect.y, rect.width, rect.height);
      };
    });
  }

  /** Mark, or unmark, what a path covers. The path is drawn by ``trace`` on a context. */
  mark(rect, trace, marked) {
    this.#change(rect, (which) => {
      if (which === "pixels") return null;
      return (context) => {
        context.globalCompositeOperation = marked ? "source-over" : "destination-out";
        context.fillStyle = context.strokeStyle = MARK;
        trace(context);
      };
    });
  }

  /** Mark what is not marked in a rectangle, and the other way round. */
  invert(rect) {
    this.mark(
      rect,
      (context) => {
        context.globalCompositeOperation = "xor";
        context.fillRect(rect.x, rect.y, rect.width, rect.height);
      },
      true,
    );
  }

  unmarkAll() {
    if (!this.marks.rect) return;
    const { rect } = this.marks;
    this.mark(rect, (context) => context.fillRect(rect.x, rect.y, rect.width, rect.height), false);
  }

  /** Why nothing can be put into a rectangle, in words; empty if it can. */
  problemOf(rect) {
    try {
      for (const layer of [this.pixels, this.marks]) layer.check(rect);
      return "";
    } catch (error) {
      return error.message;
    }
  }

  /** What the model is given of a rectangle: a canvas that is transparent where it shall paint, and opaque elsewhere. */
  given(rect) {
    const canvas = this.pixels.copy(rect);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const image = context.getImageData(0, 0, rect.width, rect.height);
    const marked = this.marks.copy(rect).getContext("2d").getImageData(0, 0, rect.width, rect.height).data;
    for (let i = 3; i < marked.length; i += 4)
      image.data[i] = image.data[i] < 128 || marked[i] >= 128 ? 0 : 255;
    context.putImageData(image, 0, 0);
    return canvas;
  }

  undo() {
    this.#step(this.#back, this.#forth);
  }

  redo() {
    this.#step(this.#forth, this.#back);
  }

  #change(rect, workOf) {
    const works = [
      ["pixels", workOf("pixels")],
      ["marks", workOf("marks")],
    ].filter(([, work]) => work);
    for (const [which] of works) this[which].check(rect);
    const before = this.#copies(
      rect,
      works.map(([which]) => which),
    );
    for (const [which, work] of works) this[which].draw(rect, work);
    this.#back.push(before);
    this.#forth = [];
    while (this.#back.length > MOST_STEPS || (this.#back.length > 1 && kept(this.#back) > MOST_KEPT))
      this.#back.shift();
    this.#changed();
  }

  #copies(rect, names) {
    return { rect, copies: names.map((which) => [which, this[which].copy(rect)]) };
  }

  #step(from, to) {
    const entry = from.pop();
    if (!entry) return;
    to.push(
      this.#copies(
        entry.rect,
        entry.copies.map(([which]) => which),
      ),
    );
    for (const [which, canvas] of entry.copies) this[which].replace(entry.rect, canvas);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function kept(entries) {
  return entries.reduce((sum, { rect, copies }) => sum + rect.width * rect.height * copies.length, 0);
}
