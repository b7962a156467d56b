/** What pointers do on the stage: pan, pinch, move and resize the frame, and draw strokes. */

import { common, grip, resized } from "./geometry.js";

const GRIP = 12; // px of the screen around a frame's corner or edge

/** Listens on the stage. canvas: {tool(), busy(), frame(), setFrame(rect), render()}; while it is busy, pointers only pan. */
export class Gestures {
  #pointers = new Map();
  #gesture = null; // {kind, point, ...}: point is where it began, in the plane
  #stage;
  #view;
  #marking;
  #canvas;

  constructor(stage, view, marking, canvas) {
    this.#stage = stage;
    this.#view = view;
    this.#marking = marking;
    this.#canvas = canvas;
    stage.addEventListener("pointerdown", (event) => this.#press(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"])
      stage.addEventListener(name, (event) => this.#release(event));
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  #press(event) {
    this.#stage.focus({ preventScroll: true });
    this.#stage.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event);
    this.#marking.cursor = null;
    if (this.#pointers.size === 2) this.#startPinch();
    if (this.#pointers.size > 1) return;
    if (event.button > 1) return;
    const point = this.#view.toPlane(event);
    const tool = this.#canvas.tool();
    if (tool === "hand" || event.button === 1 || this.#canvas.busy()) this.#gesture = { kind: "pan", point };
    else if (tool === "frame") this.#gesture = this.#ofFrame(point);
    else {
      this.#gesture = { kind: "stroke", point };
      this.#marking.begin(tool, point, event.altKey);
    }
    this.#canvas.render();
  }

  #ofFrame(point) {
    const from = this.#canvas.frame();
    const sides = grip(from, point, GRIP / this.#view.scale);
    if (sides) return { kind: "resize", from, point, sides };
    return common(from, { ...point, width: 1, height: 1 })
      ? { kind: "shift", from, point }
      : { kind: "pan", point };
  }

  #startPinch() {
    const [a, b] = [...this.#pointers.values()];
    this.#marking.stroke = null;
    this.#gesture = {
      kind: "pinch",
      scale: this.#view.scale,
      distance: apart(a, b),
      point: this.#view.toPlane(between(a, b)),
    };
  }

  #move(event) {
    if (this.#pointers.has(event.pointerId)) this.#pointers.set(event.pointerId, event);
    if (!this.#gesture) return this.#showPointer(event);
    const { kind, from, point, sides } = this.#gesture;
    const now = this.#view.toPlane(event);
    if (kind === "pan") this.#view.pin(point, event, this.#view.scale);
    if (kind === "shift")
      this.#canvas.setFrame({ ...from, x: from.x + now.x - point.x, y: from.y + now.y - point.y });
    if (kind === "resize") this.#canvas.setFrame(resized(from, sides, now.x - point.x, now.y - point.y));
    if (kind === "stroke") this.#draw(event);
    if (kind === "pinch" && this.#pointers.size === 2) this.#pinch();
    this.#canvas.render();
  }

  #draw(event) {
    const parts = event.getCoalescedEvents?.() ?? [];
    const points = (parts.length ? parts : [event]).map((part) => this.#view.toPlane(part));
    this.#marking.stroke?.points.push(...points);
  }

  #pinch() {
    const [a, b] = [...this.#pointers.values()];
    const { scale, distance, point } = this.#gesture;
    this.#view.pin(point, between(a, b), (scale * apart(a, b)) / distance);
  }

  #showPointer(event) {
    const tool = this.#canvas.tool();
    const sides =
      tool === "frame" && grip(this.#canvas.frame(), this.#view.toPlane(event), GRIP / this.#view.scale);
    this.#stage.style.cursor =
      (sides && resizing(sides)) || { frame: "move", hand: "grab" }[tool] || "crosshair";
  }

  #release(event) {
    this.#pointers.delete(event.pointerId);
    if (event.type === "pointerup") this.#marking.end();
    this.#marking.stroke = null;
    if (this.#pointers.size === 0) this.#gesture = null;
    this.#canvas.render();
  }

  #wheel(event) {
    event.preventDefault();
    if (event.shiftKey) this.#view.x += (event.deltaY + event.deltaX) / this.#view.scale;
    else this.#view.zoomBy(Math.exp(-event.deltaY / 500), this.#view.toPlane(event));
    this.#canvas.render();
  }
}

function resizing({ x, y }) {
  if (x && y) return x === y ? "nwse-resize" : "nesw-resize";
  return x ? "ew-resize" : "ns-resize";
}

function apart(a, b) {
  return Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY));
}

function between(a, b) {
  return { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
}
