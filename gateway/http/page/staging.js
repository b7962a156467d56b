/** Painting in the frame, and choosing among the results before one of them is accepted. */

import { add, settings } from "./create.js";
import * as db from "./db.js";
import { announce, byId, h, say, urlOf } from "./dom.js";
import { begin, Task } from "./tasks.js";

const BEFORE = -1; // stands for the picture as it was, among the results

/**
 * Results that wait for a decision.
 *
 * canvas: {frame(), given(), limits(), accept(image), changed()}, what the canvas does for it.
 */
export class Staging {
  #canvas;
  #task = null;
  #images = []; // by index: previews, then results
  #chosen = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    byId("canvas-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#paint();
    });
    byId("canvas-cancel").addEventListener("click", () => this.#task?.cancel());
    byId("accept").addEventListener("click", () => this.#accept());
    byId("reject").addEventListener("click", () => this.#end());
  }

  get active() {
    return this.#task !== null;
  }

  get taskId() {
    return this.#task?.record.id ?? null;
  }

  /** What is shown in the frame, if anything. */
  get image() {
    return this.#chosen === BEFORE ? null : (this.#images[this.#chosen] ?? null);
  }

  /** Show the results of an earlier visit. */
  async restore(taskId) {
    this.#task = null;
    const record = taskId && (await db.get("tasks", taskId).catch(() => null));
    if (record) {
      const task = new Task(record);
      if (task.missing.length < task.tiles.length) this.#watch(task);
    }
    this.#show();
  }

  async #paint() {
    const prompt = byId("canvas-prompt").value.trim();
    if (!prompt) return byId("canvas-prompt").focus();
    if (this.active) return say("Accept one of the results, or discard them, before you paint again.");
    const rect = { ...this.#canvas.frame() };
    const most = this.#canvas.limits();
    const wrong = problemOf(rect, most);
    if (wrong) return say(wrong);
    const given = this.#canvas.given();
    if (!hasHole(given))
      return say(
        "There is nothing to paint: mark a place with the brush, or move the frame past the border.",
      );
    const wanted = Number(byId("canvas-count").value) || 4;
    const n = Math.max(1, Math.min(wanted, Math.floor(most.max_result_pixels / (rect.width * rect.height))));
    if (n < wanted) say(`A frame of this size gives ${n} at a time.`, { kind: "note" });
    const blob = await new Promise((resolve) => given.toBlob(resolve, "image/png"));
    const { steps, guidance, negative_prompt } = settings();
    const task = begin(
      "edit",
      prompt,
      { prompt, n, steps, guidance, negative_prompt, output_format: "png" },
      { image: blob },
    );
    add(task);
    this.#watch(task);
    this.#show();
  }

  #watch(task) {
    this.#task = task;
    this.#images = [];
    this.#chosen = 0;
    const update = () => task === this.#task && this.#update();
    task.addEventListener("change", update);
    task.addEventListener("end", update);
    this.#update();
  }

  async #update() {
    const task = this.#task;
    await Promise.all(
      task.tiles.map(async (tile, index) => {
        const blob = tile.picture?.blob ?? tile.preview;
        const known = this.#images[index];
        if (!blob || known?.blob === blob) return;
        const image = await createImageBitmap(blob);
        if (task === this.#task) this.#images[index] = Object.assign(image, { blob });
      }),
    );
    if (task === this.#task) this.#show();
  }

  #show() {
    const task = this.#task;
    byId("canvas-cancel").hidden = !task?.running;
    byId("staging").hidden = !task;
    byId("canvas-status").textContent = task ? statusOf(task) : "";
    if (task) this.#showCandidates(task);
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
      if (blob && image.src !== urlOf(blob)) image.src = urlOf(blob);
    }
    byId("accept").disabled = !task.tiles[this.#chosen]?.picture;
  }

  #choice(index, label) {
    const input = h("input", {
      type: "radio",
      name: "candidate",
      value: index,
      onchange: () => this.#choose(index),
    });
    return h("label", { class: "choice" }, input, h("img", { alt: "", hidden: true }), label);
  }

  #choose(index) {
    this.#chosen = index;
    this.#show();
  }

  #accept() {
    const image = this.image;
    if (!image || !this.#task.tiles[this.#chosen]?.picture) return;
    this.#canvas.accept(image);
    this.#end();
    announce("Accepted");
  }

  #end() {
    this.#task?.cancel();
    this.#task = null;
    this.#images = [];
    byId("candidates").replaceChildren();
    this.#show();
    byId("canvas-prompt").focus();
  }
}

function statusOf(task) {
  if (task.waiting || task.record.problem) return task.waiting || task.record.problem;
  if (!task.running) return "Compare the results; then accept one, or discard all.";
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
