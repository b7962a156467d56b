/** The canvas view: its frame and tools, by pointer and by keys. */

import { Artwork } from "./artwork.js";
import { addFile as addToHistory } from "./create.js";
import { byId, chooseFile, download, fileName, h, say } from "./dom.js";
import { common, fitting, LEAST_FRAME, union, whole } from "./geometry.js";
import { Gestures } from "./gestures.js";
import { Keeper } from "./keeper.js";
import { Keys, TOOLS } from "./keys.js";
import { Marking } from "./marking.js";
import { draggedPicture } from "./pictures.js";
import { Staging } from "./staging.js";
import { View } from "./view.js";

const SIDES = ["x", "y", "width", "height"];

const stage = byId("stage");
const view = new View(stage);
let artwork = new Artwork();
let frame = { x: 0, y: 0, width: 256, height: 256 };
let tool = "frame";
let model = null;
let scheduled = false;
let seen = false;
const marking = new Marking({ artwork: () => artwork, frame: () => frame, brush, attempt });
const keeper = new Keeper(snapshot, restore);
let open; // resolves the promise below
const ready = new Promise((resolve) => {
  open = resolve;
});
const staging = new Staging({
  ready,
  frame: () => frame,
  problemOf: (rect) => artwork.problemOf(rect),
  given: (rect) => artwork.given(rect),
  accept: (image, rect) => attempt(() => artwork.place(image, rect)),
  limits: () => model,
  kept: () => keeper.soon(),
  changed: shownAnew,
});

/** Set the tools up. */
export function start() {
  for (const [name, [label, letter]] of Object.entries(TOOLS)) {
    const input = h("input", {
      type: "radio",
      name: "tool",
      value: name,
      checked: name === tool,
      onchange: () => chooseTool(name),
    });
    byId("tool-buttons").append(
      h("label", { class: "choice", title: `${label} (${letter.toUpperCase()})` }, input, label),
    );
  }
  listen();
}

/** Open what was there last. Until then, what is given waits. */
export async function openLast() {
  await keeper.open();
  open();
}

/** The model is known. */
export function setModel(found) {
  model = found;
  byId("canvas-count").max = found.max_n;
}

/** The view is open; only now has it a size. */
export function shown() {
  resize();
  if (!seen) fit();
  seen = true;
}

/** Begin with a picture: on a new canvas, unless this one is empty. */
export async function edit(picture) {
  await ready;
  if (!artwork.empty || staging.active) await keeper.fresh();
  if (!(await place(picture, { x: 0, y: 0 }))) return;
  setFrame(fitting(artwork.pixels.rect, model?.max_picture_pixels ?? 2 ** 20));
  fit();
}

/** Put a picture into the middle of what is seen, or at a place of the plane. Whether that worked. */
export async function place(picture, at = view.centre) {
  await ready;
  const bitmap = await createImageBitmap(picture.blob);
  const { width, height } = bitmap;
  const done = attempt(() =>
    artwork.place(bitmap, { x: Math.round(at.x), y: Math.round(at.y), width, height }),
  );
  bitmap.close();
  return done;
}

/** A file was chosen, dropped or pasted: it comes where the pointer is, or to the middle. */
export async function addFile(file, event = {}) {
  const at = event.clientX === undefined ? undefined : view.toPlane(event);
  const picture = await addToHistory(file, false);
  if (!picture) return;
  await ready;
  if (artwork.empty && !staging.active) await edit(picture);
  else await place(picture, at);
}

/** Do something, or say why not. Whether it was done. */
function attempt(work) {
  try {
    work();
    return true;
  } catch (error) {
    say(error.message);
    return false;
  }
}

function snapshot() {
  return { artwork, frame, prompt: byId("canvas-prompt").value, staged: staging.record };
}

/** Take over what was kept of a canvas, or begin anew. */
function restore(kept) {
  const side = model?.default_size ?? 256;
  artwork = kept?.artwork ?? new Artwork();
  artwork.addEventListener("change", changed);
  frame = kept?.frame ?? { x: 0, y: 0, width: side, height: side };
  byId("canvas-prompt").value = kept?.prompt ?? "";
  staging.restore(kept?.staged ?? null);
  showFields();
  fit();
}

function changed() {
  keeper.soon();
  shownAnew();
}

function shownAnew() {
  showFields();
  render();
}

function fit() {
  view.fit(union(artwork.pixels.rect, frame));
  render();
}

function zoomBy(factor, about) {
  view.zoomBy(factor, about);
  render();
}

function resize() {
  const ratio = devicePixelRatio || 1;
  stage.width = Math.round(stage.clientWidth * ratio);
  stage.height = Math.round(stage.clientHeight * ratio);
  render();
}

function render() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    view.render({
      artwork,
      candidate: staging.shown,
      stroke: marking.stroke,
      frame,
      handles: tool === "frame" && !staging.active,
      cursor: document.activeElement === stage && Marking.marks(tool) ? marking.cursor : null,
      reach: marking.reach(tool, view.scale),
    });
    byId("zoom").textContent = `${Math.round(view.scale * 100)} %`;
  });
}

function setFrame(rect) {
  const side = (value) => Math.max(LEAST_FRAME, Math.round(value) || LEAST_FRAME);
  frame = {
    x: Math.round(rect.x) || 0,
    y: Math.round(rect.y) || 0,
    width: side(rect.width),
    height: side(rect.height),
  };
  changed();
}

function showFields() {
  for (const name of SIDES) {
    byId(`frame-${name}`).value = frame[name];
    byId(`frame-${name}`).disabled = staging.active;
  }
  byId("undo").disabled = !artwork.canUndo || staging.active;
  byId("redo").disabled = !artwork.canRedo || staging.active;
  for (const id of ["invert", "unmark", "mark", "unmark-rectangle"]) byId(id).disabled = staging.active;
}

function brush() {
  return Number(byId("brush-size").value);
}

function chooseTool(name) {
  tool = name;
  marking.stroke = null;
  byId("tool-buttons").querySelector(`[value=${name}]`).checked = true;
  render();
}

function markRectangle(marked) {
  const [x, y, width, height] = SIDES.map((name) => Number(byId(`mark-${name}`).value));
  const rect = common(whole({ x: frame.x + x, y: frame.y + y, width, height }), frame);
  if (!rect)
    return say("This rectangle is outside the frame. Its left and top count from the frame's corner.");
  attempt(() =>
    artwork.mark(rect, (context) => context.fillRect(rect.x, rect.y, rect.width, rect.height), marked),
  );
}

function exportAll() {
  if (artwork.empty) return say("There is nothing on the canvas yet.");
  artwork.pixels.canvas.toBlob((blob) => download(blob, fileName("unclip-canvas", "png")), "image/png");
}

function listen() {
  new ResizeObserver(resize).observe(stage);
  new Gestures(stage, view, marking, {
    tool: () => tool,
    busy: () => staging.active,
    frame: () => frame,
    setFrame,
    render,
  });
  for (const name of ["focus", "blur"]) stage.addEventListener(name, render);
  new Keys(stage, view, marking, {
    tool: () => tool,
    busy: () => staging.active,
    frame: () => frame,
    setFrame,
    chooseTool,
    fit,
    render,
  });
  stage.addEventListener("dragover", (event) => event.preventDefault());
  stage.addEventListener("drop", (event) => {
    const picture = draggedPicture(event);
    if (!picture) return;
    event.preventDefault();
    place(picture, view.toPlane(event));
  });
  const clicks = {
    "zoom-in": () => zoomBy(1.25),
    "zoom-out": () => zoomBy(0.8),
    fit,
    undo: () => artwork.undo(),
    redo: () => artwork.redo(),
    invert: () => attempt(() => artwork.invert(frame)),
    unmark: () => artwork.unmarkAll(),
    export: exportAll,
    "canvas-new": () => keeper.choose(),
    "canvas-open": async () => addFile(await chooseFile()),
    mark: () => markRectangle(true),
    "unmark-rectangle": () => markRectangle(false),
  };
  for (const [id, work] of Object.entries(clicks)) byId(id).addEventListener("click", work);
  byId("canvas-prompt").addEventListener("input", () => keeper.soon());
  for (const name of SIDES) {
    const set = (event) => setFrame({ ...frame, [name]: Number(event.target.value) });
    byId(`frame-${name}`).addEventListener("change", set);
  }
  document.addEventListener("keydown", undoKey);
}

function undoKey(event) {
  if (
    byId("canvas").hidden ||
    staging.active ||
    !(event.ctrlKey || event.metaKey) ||
    event.key.toLowerCase() !== "z"
  )
    return;
  if (event.target.matches("input, textarea")) return;
  event.preventDefault();
  if (event.shiftKey) artwork.redo();
  else artwork.undo();
}
