/** The canvas view: its frame and tools, by pointer and by keys. */

import { Artwork } from "./artwork.js";
import { addFile as addToHistory } from "./create.js";
import { byId, chooseFile, download, fileName, h, say } from "./dom.js";
import { common, fitting, LEAST_FRAME, union, whole } from "./geometry.js";
import { Gestures } from "./gestures.js";
import { Keeper } from "./keeper.js";
import { Marking } from "./marking.js";
import { draggedPicture } from "./pictures.js";
import { Staging } from "./staging.js";
import { View } from "./view.js";

const TOOLS = {
  frame: ["Frame", "v"],
  hand: ["Hand", "h"],
  brush: ["Brush", "b"],
  eraser: ["Eraser", "e"],
  rectangle: ["Rectangle", "r"],
  lasso: ["Lasso", "l"],
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 16; // px that an arrow key moves; with Shift, one
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
const keeper = new Keeper(
  () => ({ artwork, frame, prompt: byId("canvas-prompt").value, staged: staging.taskId }),
  restore,
);
const staging = new Staging({
  frame: () => frame,
  given: () => artwork.given(frame),
  accept: (image) => attempt(() => artwork.place(image, frame)),
  limits: () => model,
  changed,
});

/** Set the view up, with what was there last. */
export async function start() {
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
  await keeper.open();
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
  if (!artwork.empty) await keeper.fresh();
  await place(picture.blob, { x: 0, y: 0 });
  if (!artwork.empty) setFrame(fitting(artwork.pixels.rect, model?.max_picture_pixels ?? 2 ** 22));
  fit();
}

/** A file was chosen, dropped or pasted: it comes where the pointer is, or to the middle. */
export async function addFile(file, event = {}) {
  const at = event.clientX === undefined ? view.centre : view.toPlane(event);
  const picture = await addToHistory(file, false);
  if (!picture) return;
  if (artwork.empty) await edit(picture);
  else await place(picture.blob, at);
}

async function place(blob, { x, y }) {
  const bitmap = await createImageBitmap(blob);
  attempt(() =>
    artwork.place(bitmap, { x: Math.round(x), y: Math.round(y), width: bitmap.width, height: bitmap.height }),
  );
  bitmap.close();
}

function attempt(work) {
  try {
    work();
  } catch (error) {
    say(error.message);
  }
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
      candidate: staging.image,
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
  for (const [name, work] of Object.entries({ keydown: key, focus: render, blur: render }))
    stage.addEventListener(name, work);
  stage.addEventListener("dragover", (event) => event.preventDefault());
  stage.addEventListener("drop", (event) => {
    const picture = draggedPicture(event);
    if (!picture) return;
    event.preventDefault();
    place(picture.blob, view.toPlane(event));
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

function key(event) {
  if (event.ctrlKey || event.metaKey) return;
  const chosen = Object.keys(TOOLS).find((name) => TOOLS[name][1] === event.key.toLowerCase());
  const others = {
    "+": () => zoomBy(1.25),
    "-": () => zoomBy(0.8),
    0: fit,
    i: () => byId("invert").click(),
    " ": () => Marking.marks(tool) && !staging.active && marking.stamp(tool, event.altKey),
    Enter: () => marking.close(),
    Escape: () => (marking.stroke = null),
    "[": () => (byId("brush-size").value = brush() - 8),
    "]": () => (byId("brush-size").value = brush() + 8),
  };
  if (event.key in ARROWS) arrow(ARROWS[event.key], event);
  else if (chosen) chooseTool(chosen);
  else if (event.key in others) others[event.key]();
  else return;
  event.preventDefault();
  render();
}

function arrow([dx, dy], event) {
  const by = event.shiftKey ? 1 : STEP;
  if (tool === "hand") {
    view.x += (dx * 60) / view.scale;
    view.y += (dy * 60) / view.scale;
  } else if (Marking.marks(tool)) {
    marking.move(tool, dx * by, dy * by);
  } else if (!staging.active) {
    const change = event.altKey
      ? { width: frame.width + dx * by, height: frame.height + dy * by }
      : { x: frame.x + dx * by, y: frame.y + dy * by };
    setFrame({ ...frame, ...change });
  }
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
