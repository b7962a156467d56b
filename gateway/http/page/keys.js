/** What keys do on the stage. */

import { byId } from "./dom.js";
import { Marking } from "./marking.js";

/** By name: what a tool is called, and its key. */
export const TOOLS = {
  frame: ["Frame", "v"],
  hand: ["Hand", "h"],
  brush: ["Brush", "b"],
  eraser: ["Eraser", "e"],
  rectangle: ["Rectangle", "r"],
  lasso: ["Lasso", "l"],
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 16; // px that an arrow key moves; with Shift, one
const PAN = 60; // px of the screen

/** Listens on the stage. canvas: {tool(), busy(), frame(), setFrame(rect), chooseTool(name), fit(), render()}. */
export class Keys {
  #view;
  #marking;
  #canvas;

  constructor(stage, view, marking, canvas) {
    this.#view = view;
    this.#marking = marking;
    this.#canvas = canvas;
    stage.addEventListener("keydown", (event) => this.#pressed(event));
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey) return;
    const chosen = Object.keys(TOOLS).find((name) => TOOLS[name][1] === event.key.toLowerCase());
    const works = this.#works();
    if (event.key in ARROWS) this.#arrow(ARROWS[event.key], event);
    else if (chosen) this.#canvas.chooseTool(chosen);
    // With Alt, Space is another character on a Mac.
    else if (event.code === "Space") this.#stamp(event);
    else if (event.key in works) works[event.key]();
    else return;
    event.preventDefault();
    this.#canvas.render();
  }

  #works() {
    const size = byId("brush-size");
    return {
      "+": () => this.#view.zoomBy(1.25),
      "-": () => this.#view.zoomBy(0.8),
      0: () => this.#canvas.fit(),
      i: () => byId("invert").click(),
      Enter: () => this.#marking.close(),
      Escape: () => this.#marking.leave(),
      "[": () => size.stepDown(8),
      "]": () => size.stepUp(8),
    };
  }

  #stamp(event) {
    const tool = this.#canvas.tool();
    if (Marking.marks(tool) && !this.#canvas.busy()) this.#marking.stamp(tool, event.altKey);
  }

  #arrow([dx, dy], event) {
    const by = event.shiftKey ? 1 : STEP;
    const tool = this.#canvas.tool();
    if (tool === "hand") {
      this.#view.x += (dx * PAN) / this.#view.scale;
      this.#view.y += (dy * PAN) / this.#view.scale;
    } else if (Marking.marks(tool)) {
      this.#marking.move(tool, dx * by, dy * by);
    } else if (!this.#canvas.busy()) {
      const frame = this.#canvas.frame();
      const change = event.altKey
        ? { width: frame.width + dx * by, height: frame.height + dy * by }
        : { x: frame.x + dx * by, y: frame.y + dy * by };
      this.#canvas.setFrame({ ...frame, ...change });
    }
  }
}
