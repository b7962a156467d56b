/** The view where prompts are written and drawings appear. */

import * as db from "./db.js";
import { requestDialog } from "./dialogs.js";
import { byId, chooseFile, h, newId, say, urlOf } from "./dom.js";
import { picked } from "./files.js";
import { openPicture, pictureTile } from "./pictures.js";
import { surprise } from "./prompts.js";
import { begin, earlier } from "./tasks.js";

const SHOWN = 20; // earlier drawings
const DRAFT = "unclip-draft";
let served = null; // the model's facts, once they are known

/** Set the view up. */
export async function start() {
  byId("prompt-form").addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
  byId("surprise").addEventListener("click", () => {
    byId("prompt").value = surprise();
    keepDraft();
    generate();
  });
  byId("prompt").addEventListener("input", keepDraft);
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    byId("prompt-form").requestSubmit();
  });
  byId("open-picture").addEventListener("click", async () => addFile(await chooseFile()));
  byId("prompt").value = localStorage.getItem(DRAFT) ?? "";
  if (!location.hash && matchMedia("(pointer: fine)").matches) byId("prompt").focus();
  for (const task of await earlier(SHOWN)) byId("tasks").append(card(task));
  showEmpty();
}

/** Let the settings be what the model takes. */
export function setModel(model) {
  served = model;
  const sizes = [...new Set([...model.sizes, 512])]
    .filter((size) => size <= Math.max(...model.sizes))
    .sort((a, b) => a - b);
  byId("size").replaceChildren(
    ...sizes.map((size) =>
      h("option", { value: size, selected: size === model.default_size }, `${size} × ${size}`),
    ),
  );
  byId("count").max = model.max_n;
  byId("prompt").maxLength = model.max_prompt_characters;
  Object.assign(byId("steps"), { max: model.max_steps, placeholder: model.default_steps });
  Object.assign(byId("guidance"), { max: model.max_guidance, placeholder: model.default_guidance });
}

function keepDraft() {
  localStorage.setItem(DRAFT, byId("prompt").value);
}

function number(id) {
  const { value } = byId(id);
  return value === "" ? undefined : Number(value);
}

/** What the settings say, for any drawing. */
export function settings() {
  const size = byId("size").value;
  return {
    n: number("count") ?? 4,
    size: size ? `${size}x${size}` : undefined,
    steps: number("steps"),
    guidance: number("guidance"),
    seed: number("seed"),
    negative_prompt: byId("negative").value.trim() || undefined,
    output_format: byId("format").value,
  };
}

function generate() {
  const prompt = byId("prompt").value.trim();
  if (!prompt) return byId("prompt").focus();
  if (!byId("prompt-form").reportValidity()) return;
  add(begin("generate", prompt, { prompt, ...settings() }));
}

/** Show a drawing, above all others. */
export function add(task) {
  byId("tasks").prepend(card(task));
  showEmpty();
}

function showEmpty() {
  byId("tasks-empty").hidden = byId("tasks").children.length > 0;
}

/** Take a picture that a person gives, and open it unless told otherwise. Resolves to its record, or null. */
export async function addFile(file, opened = true) {
  if (!served) {
    say("Wait until the service answers; then give the picture again.");
    return null;
  }
  try {
    const { blob, width, height, note } = await picked(file, served);
    if (note) say(note, { kind: "note" });
    const picture = {
      id: newId(),
      task: null,
      index: 0,
      created: Date.now(),
      title: file.name || "A picture",
      blob,
      format: "png",
      width,
      height,
      favourite: false,
      collections: [],
    };
    await db.put("pictures", picture);
    if (opened) openPicture(picture.id);
    return picture;
  } catch (error) {
    say(error.message);
    return null;
  }
}

function card(task) {
  const problem = h("p", { class: "problem" });
  const tiles = h("div", { class: "tiles" });
  const again = h("button", { type: "button", onclick: () => task.run() }, "Try again");
  const cancel = h("button", { type: "button", onclick: () => task.cancel() }, "Cancel");
  const request = h(
    "button",
    { type: "button", class: "quiet", onclick: () => requestDialog(task.record) },
    "Request",
  );
  const dismiss = h(
    "button",
    { type: "button", class: "quiet", onclick: () => forget(task, root) },
    "Remove",
  );
  const root = h(
    "article",
    { class: "task", "aria-label": task.record.title },
    h(
      "header",
      {},
      h("h2", {}, task.record.title),
      h("div", { class: "row" }, cancel, again, request, dismiss),
    ),
    problem,
    tiles,
  );
  const shown = task.tiles.map(() => null);
  const update = () => {
    const { state, warnings } = task.record;
    cancel.hidden = !task.running;
    again.hidden = task.running || state === "done" || !task.missing.length;
    dismiss.hidden = task.running;
    problem.textContent = task.waiting || task.record.problem || warnings?.join(" ") || "";
    problem.hidden = !problem.textContent;
    tiles.setAttribute("aria-busy", String(task.running));
    task.tiles.forEach(show);
  };
  const show = (tile, index) => {
    const known = shown[index];
    if (tile.picture && known?.picture === tile.picture) return;
    const made = tile.picture
      ? { picture: tile.picture, element: pictureTile(tile.picture) }
      : pending(known, tile, index, task);
    if (made === known) return;
    if (known) known.element.replaceWith(made.element);
    else tiles.append(made.element);
    shown[index] = made;
  };
  task.addEventListener("change", update);
  update();
  return root;
}

/** A place where a picture is being drawn. */
function pending(known, tile, index, task) {
  const place = known?.bar ? known : newPlace(index);
  place.text.textContent = task.running ? tile.text || "asking" : "not drawn";
  place.bar.value = tile.share;
  place.bar.hidden = !task.running;
  place.image.hidden = !tile.preview;
  if (tile.preview && place.preview !== tile.preview) {
    place.preview = tile.preview;
    place.image.src = urlOf(tile.preview);
  }
  return place;
}

function newPlace(index) {
  const image = h("img", { alt: `Picture ${index + 1}, on its way`, hidden: true });
  const text = h("p");
  const bar = h("progress", { max: 1, value: 0, "aria-label": `Picture ${index + 1}` });
  return { element: h("div", { class: "tile pending" }, image, text, bar), image, text, bar, preview: null };
}

async function forget(task, root) {
  root.remove();
  showEmpty();
  await db.remove("tasks", task.record.id);
}
