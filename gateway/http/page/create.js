/** The view where prompts are written and drawings appear. */

import * as db from "./db.js";
import { requestDialog } from "./dialogs.js";
import { byId, chooseFile, h, newId, remember, remembered, say, showBlob } from "./dom.js";
import { picked } from "./files.js";
import { openPicture, pictureTile } from "./pictures.js";
import { surprise } from "./prompts.js";
import { begin, earlier, forget } from "./tasks.js";

const SHOWN = 20; // earlier drawings at first, and more at a time
const DRAFT = "unclip-draft";
const cards = new Map(); // by the id of their task
let served = null; // the model's facts, once they are known
let shown = SHOWN;

/** Set the form up. */
export function start() {
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
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("prompt-form").requestSubmit();
  });
  byId("open-picture").addEventListener("click", async () => addFile(await chooseFile()));
  byId("tasks-more").addEventListener("click", () => {
    shown += SHOWN;
    showEarlier();
  });
  byId("prompt").value = remembered(DRAFT) ?? "";
  if (!location.hash && matchMedia("(pointer: fine)").matches) byId("prompt").focus();
}

/** Show what was drawn in earlier visits. */
export async function showEarlier() {
  const tasks = await earlier(shown);
  for (const task of tasks) if (!cards.has(task.record.id)) byId("tasks").append(card(task));
  byId("tasks-more").hidden = tasks.length < shown;
  showEmpty();
}

/** Let the settings be what the model takes. */
export function setModel(model) {
  served = model;
  const largest = Math.max(...model.sizes);
  const sizes = [...new Set([...model.sizes, 512])].filter((size) => size <= largest).sort((a, b) => a - b);
  const shapes = [...sizes.map((size) => [size, size]), ...oblong(model)];
  const option = ([width, height]) => {
    const selected = width === height && width === model.default_size;
    return h("option", { value: `${width}x${height}`, selected }, `${width} × ${height}`);
  };
  byId("size").replaceChildren(...shapes.map(option));
  byId("count").max = model.max_n;
  byId("prompt").maxLength = model.max_prompt_characters;
  Object.assign(byId("steps"), { max: model.max_steps, placeholder: model.default_steps });
  Object.assign(byId("guidance"), { max: model.max_guidance, placeholder: model.default_guidance });
}

/** Some shapes that are not square, lying and standing, where the model draws such. */
function oblong({ shape_multiple, default_size, sizes }) {
  if (!shape_multiple) return [];
  const longer = shape_multiple * Math.round((1.5 * default_size) / shape_multiple);
  const fits = longer * default_size <= Math.max(...sizes) ** 2;
  return fits
    ? [
        [longer, default_size],
        [default_size, longer],
      ]
    : [];
}

/** Let a person choose among models, if there are several. chosen(name): is called when one does. */
export function offerModels(models, chosen) {
  byId("models").hidden = models.length < 2;
  byId("model").replaceChildren(...models.map(({ name }) => h("option", { value: name }, name)));
  byId("model").onchange = () => chosen(byId("model").value);
}

/** The name of the model that draws: the one that is shown. */
export function chosenModel() {
  return served?.name;
}

function keepDraft() {
  remember(DRAFT, byId("prompt").value);
}

function number(id) {
  const { value } = byId(id);
  return value === "" ? undefined : Number(value);
}

/** What the settings say, for any drawing. */
export function settings() {
  const size = byId("size").value;
  return {
    model: chosenModel(),
    n: number("count") || 4,
    size: size || undefined,
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
  byId("tasks-empty").hidden = cards.size > 0;
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
  const button = (label, work, kind) => h("button", { type: "button", class: kind, onclick: work }, label);
  const again = button("Try again", () => task.run());
  const cancel = button("Cancel", () => task.cancel());
  const request = button("Request", () => requestDialog(task.record), "quiet");
  const dismiss = button("Remove", () => dismissed(task, root), "quiet");
  const title = h("h2", { tabIndex: -1 }, task.record.title);
  const buttons = h("div", { class: "row" }, cancel, again, request, dismiss);
  const root = h(
    "article",
    { class: "task", "aria-label": task.record.title },
    h("header", {}, title, buttons),
    problem,
    tiles,
  );
  const places = [];
  const update = () => {
    cancel.hidden = !task.running;
    again.hidden = !task.canRun;
    dismiss.hidden = task.running || task.elsewhere;
    problem.textContent = problemOf(task);
    problem.hidden = !problem.textContent;
    tiles.setAttribute("aria-busy", String(task.running));
    task.tiles.forEach((tile, index) => {
      places[index] = placed(places[index], tile, index, task);
    });
    showOnly(tiles, places.map(({ element }) => element).filter(Boolean));
    const focused = document.activeElement;
    if (focused?.hidden && buttons.contains(focused)) title.focus();
    if (task.gone) dismissed(task, root);
  };
  task.addEventListener("change", update);
  cards.set(task.record.id, root);
  update();
  return root;
}

/** Let a container hold these elements, moving none that is in its place; the focus stays at its picture. */
function showOnly(container, elements) {
  const focused = container.contains(document.activeElement) && document.activeElement.dataset.picture;
  elements.forEach((element, index) => {
    const there = container.children[index] ?? null;
    if (there !== element) container.insertBefore(element, there);
  });
  while (container.children.length > elements.length) container.lastElementChild.remove();
  if (focused) container.querySelector(`[data-picture="${focused}"]`)?.focus();
}

function problemOf(task) {
  if (task.elsewhere) return "This is being drawn in another tab.";
  return task.waiting || task.record.problem || task.record.warnings?.join(" ") || "";
}

/** What stands at a picture's place now: {element, ...}; known: what stood there. */
function placed(known, tile, index, task) {
  if (tile.deleted) return { element: null };
  if (!tile.picture) return pending(known, tile, index, task);
  const { id, favourite } = tile.picture;
  if (known?.id === id && known.favourite === favourite) return known;
  return { element: pictureTile(tile.picture), id, favourite };
}

/** A place where a picture is being drawn. */
function pending(known, tile, index, task) {
  const place = known?.bar ? known : newPlace(index);
  place.text.textContent = task.running ? tile.text || "asking" : "not drawn";
  place.bar.value = tile.share;
  place.bar.hidden = !task.running;
  place.image.hidden = !tile.preview;
  if (tile.preview) showBlob(place.image, tile.preview);
  return place;
}

function newPlace(index) {
  const image = h("img", { alt: `Picture ${index + 1}, on its way`, hidden: true });
  const text = h("p");
  const bar = h("progress", { max: 1, value: 0, "aria-label": `Picture ${index + 1}` });
  return { element: h("div", { class: "tile pending" }, image, text, bar), image, text, bar };
}

async function dismissed(task, root) {
  if (!cards.delete(task.record.id)) return;
  const focused = root.contains(document.activeElement);
  const next = root.nextElementSibling ?? root.previousElementSibling;
  root.remove();
  if (focused) (next?.querySelector("h2") ?? byId("prompt")).focus();
  showEmpty();
  await forget(task);
}
