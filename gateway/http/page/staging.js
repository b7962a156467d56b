/** Painting in the frame, and choosing among the results before one of them is accepted. */

import { add, settings } from "./create.js";
import { announce, byId, h, say, showBlob } from "./dom.js";
import { begin, taskOf } from "./tasks.js";

const BEFORE = -1; // stands for the picture as it was, among the results

/**
 * Results that wait for a decision, and the rectangle that they are for.
 *
 * canvas: {ready, frame(), problemOf(rect), given(rect), limits(), accept(image, rect), kept(), changed()}: what the canvas does for it.
 */
export class Staging {
  #canvas;
  #task = null;
  #rect = null;
  #images = []; // by index: {blob, bitmap} of previews, then of results
  #chosen = 0;
  #busy = false;
  #stop = () => {};
  #turn = 0; // counts restores, of which the last one counts

  constructor(canvas) {
    this.#canvas = canvas;
    byId("canvas-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#paint();
    });
    byId("canvas-cancel").addEventListener("click", () => this.#task?.cancel());
    byId("canvas-again").addEventListener("click", () => this.#task?.run());
    byId("accept").addEventListener("click", () => this.#accept());
    byId("reject").addEventListener("click", () => this.#end());
  }

  get active() {
    return this.#task !== null;
  }

  /** What is to be kept of it: the drawing and where it belongs. */
  get record() {
    return this.#task && { task: this.#task.record.id, rect: this.#rect };
  }

  /** What is shown, and where; null if the plane is as it was. */
  get shown() {
    const image = this.#chosen === BEFORE ? null : this.#images[this.#chosen];
    return this.#task && image ? { image: image.bitmap, rect: this.#rect } : null;
  }

  /** Show what was kept. */
  async restore(record) {
    this.#turn += 1;
    const turn = this.#turn;
    this.#clear();
    const task = record && (await taskOf(record.task));
    if (turn !== this.#turn) return;
    if (task) this.#watch(task, record.rect);
    this.#show();
  }

  async #paint() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      await this.#canvas.ready;
      await this.#begin();
    } finally {
      this.#busy = false;
    }
  }

  async #begin() {
    const prompt = byId("canvas-prompt").value.trim();
    if (!prompt) return byId("canvas-prompt").focus();
    if (this.active) return say("Accept one of the results, or discard them, before you paint again.");
    const rect = { ...this.#canvas.frame() };
    const most = this.#canvas.limits();
    const wrong = problemOf(rect, most);
    if (wrong) return say(wrong);
    const wide = this.#canvas.problemOf(rect);
    if (wide) return say(wide);
    const given = this.#canvas.given(rect);
    if (!hasHole(given))
      return say(
        "There is nothing to paint: mark a place with the brush, or move the frame past the border.",
      );
    const wanted = Math.min(most.max_n, Math.max(1, Math.round(Number(byId("canvas-count").value)) || 4));
    const n = Math.max(1, Math.min(wanted, Math.floor(most.max_result_pixels / (rect.width * rect.height))));
    if (n < wanted) say(`A frame of this size gives ${n} at a time.`, { kind: "note" });
    const blob = await new Promise((resolve) => given.toBlob(resolve, "image/png"));
    const { model, steps, guidance, negative_prompt } = settings();
    const fields = { model, prompt, n, steps, guidance, negative_prompt, output_format: "png" };
    const task = begin("edit", prompt, fields, { image: blob });
    add(task);
    this.#watch(task, rect);
    this.#show();
    this.#canvas.kept();
  }

  #watch(task, rect) {
    this.#clear();
    this.#task = task;
    this.#rect = rect;
    const update = () => this.#update(task);
    task.addEventListener("change", update);
    this.#stop = () => task.removeEventListener("change", update);
    update();
  }

  async #update(task) {
    await Promise.all(task.tiles.map((_, index) => this.#decode(task, index)));
    if (task !== this.#task) return;
    if (task.gone) this.#end();
    else this.#show();
  }

  /** Decode what there is of a picture now. An older preview that comes late changes nothing. */
  async #decode(task, index) {
    const blob = blobOf(task, index);
    if (!blob || this.#images[index]?.blob === blob) return;
    const bitmap = await createImageBitmap(blob);
    if (task !== this.#task || blob !== blobOf(task, index)) return bitmap.close();
    this.#images[index]?.bitmap.close();
    this.#images[index] = { blob, bitmap };
  }

  get #acceptable() {
    const picture = this.#task?.tiles[this.#chosen]?.picture;
    return Boolean(picture) && this.#images[this.#chosen]?.blob === picture.blob;
  }

  #show() {
    const task = this.#task;
    byId("canvas-cancel").hidden = !task?.running;
    byId("canvas-again").hidden = !task?.canRun;
    byId("staging").hidden = !task;
    byId("canvas-status").textContent = task ? statusOf(task) : "";
    if (task) this.#showCandidates(task);
    byId("accept").disabled = !this.#acceptable;
    this.#canvas.changed();
  }

  #showCandidates(task) {
    const list = byId("candidates");
    if (list.children.length !== task.tiles.length + 1) {
      const choices = [[BEFORE, "Before"], ...task.tiles.map((_, index) => [index, `Result ${index + 1}`])];
      list.replaceChildren(...choices.map(([index, label]) => this.#choice(index, label)));
    }
    for (const choice of list.children) {
      const input = choice.querySelector("input");
      const blob = this.#images[input.value]?.blob;
      const image = choice.querySelector("img");
      input.checked = Number(input.value) === this.#chosen;
      image.hidden = !blob;
      if (blob) showBlob(image, blob);
    }
  }

  #choice(index, label) {
    const choose = () => {
      this.#chosen = index;
      this.#show();
    };
    const input = h("input", { type: "radio", name: "candidate", value: index, onchange: choose });
    return h("label", { class: "choice" }, input, h("img", { alt: "", hidden: true }), label);
  }

  #accept() {
    if (!this.#acceptable) return;
    if (!this.#canvas.accept(this.#images[this.#chosen].bitmap, this.#rect)) return;
    this.#end();
    announce("Accepted");
  }

  #end() {
    this.#task?.cancel();
    this.#clear();
    this.#show();
    this.#canvas.kept();
    byId("canvas-prompt").focus();
  }

  #clear() {
    this.#stop();
    this.#stop = () => {};
    for (const image of this.#images) image?.bitmap.close();
    this.#images = [];
    this.#task = null;
    this.#rect = null;
    this.#chosen = 0;
    byId("candidates").replaceChildren();
  }
}

function blobOf(task, index) {
  const tile = task.tiles[index];
  return tile.picture?.blob ?? tile.preview;
}

function statusOf(task) {
  if (task.waiting || task.record.problem) return task.waiting || task.record.problem;
  if (task.elsewhere) return "This is being painted in another tab.";
  if (!task.running && task.missing.length === 0)
    return "Compare the results; then accept one, or discard all.";
  const done = task.tiles.length - task.missing.length;
  const tile = task.tiles[task.missing[0]];
  return `${done} of ${task.tiles.length} painted; ${tile?.text || "asking the service"}`;
}

function hasHole(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 3; i < data.length; i += 4) if (data[i] < 128) return true;
  return false;
}

function problemOf({ width, height }, most) {
  if (!most) return "The service does not answer yet. Try again in a moment.";
  if (width * height > most.max_picture_pixels)
    return `The frame has ${width} × ${height} px; ${most.max_picture_pixels.toLocaleString()} in all are allowed. Make it smaller.`;
  const ratio = Math.max(width / height, height / width);
  if (ratio > most.max_aspect_ratio)
    return `The frame is ${ratio.toFixed(1)} times as long as it is wide; up to ${most.max_aspect_ratio} is allowed.`;
  return "";
}
