/** Marking on the canvas: strokes of the brush, the eraser, the rectangle and the lasso, by pointer or by keys. */

import { common, coverOf, trace, union } from "./geometry.js";

const MARKING = ["brush", "eraser", "rectangle", "lasso"];

/**
 * What is being marked. stroke: {tool, points, size, marked} while it is drawn. cursor: of the keyboard, in the plane.
 *
 * canvas: {artwork(), frame(), brush(), attempt(work)}.
 */
export class Marking {
  stroke = null;
  cursor = null;
  #canvas;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** Whether a tool marks. */
  static marks(tool) {
    return MARKING.includes(tool);
  }

  /** How far the cursor reaches around its place, at this scale. */
  reach(tool, scale) {
    return tool === "brush" || tool === "eraser" ? this.#canvas.brush() / 2 : 8 / scale;
  }

  /** A pointer begins a stroke. opposite: it unmarks where it would mark, and the other way round. */
  begin(tool, point, opposite) {
    this.stroke = this.#newStroke(tool, point, opposite);
  }

  /** A pointer has ended its stroke. */
  end() {
    if (this.stroke) this.apply(this.stroke);
    this.stroke = null;
  }

  /** Mark what a stroke covers, as far as there is something to mark: pixels, or the frame. */
  apply(stroke) {
    const artwork = this.#canvas.artwork();
    const rect = common(coverOf(stroke), union(artwork.pixels.rect, this.#canvas.frame()));
    if (rect) this.#canvas.attempt(() => artwork.mark(rect, trace(stroke), stroke.marked));
  }

  /** An arrow key moves the cursor. */
  move(tool, dx, dy) {
    const { x, y } = this.#here();
    this.cursor = { x: x + dx, y: y + dy };
    if (this.stroke && tool === "rectangle") this.stroke.points[1] = this.cursor;
  }

  /** Space paints at the cursor, or sets a corner there. */
  stamp(tool, opposite) {
    const point = this.#here();
    if (tool === "brush" || tool === "eraser") this.apply(this.#newStroke(tool, point, opposite));
    else if (!this.stroke) this.stroke = this.#newStroke(tool, point, opposite);
    else if (tool === "lasso") this.stroke.points.push(point);
    else this.end();
  }

  /** Enter closes a lasso. */
  close() {
    if (this.stroke?.points.length > 2) this.apply(this.stroke);
    this.stroke = null;
  }

  /** Escape leaves a stroke. */
  leave() {
    this.stroke = null;
  }

  #newStroke(tool, point, opposite) {
    return { tool, points: [point], size: this.#canvas.brush(), marked: (tool !== "eraser") !== opposite };
  }

  #here() {
    const { x, y, width, height } = this.#canvas.frame();
    this.cursor ??= { x: x + width / 2, y: y + height / 2 };
    return this.cursor;
  }
}
