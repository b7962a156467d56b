/** Looking at the plane through the stage, and drawing what is there. */

import { MARK } from "./artwork.js";
import { trace } from "./geometry.js";

const ZOOMS = [0.05, 16];
const ACCENT = "#4338ca";

function within(scale) {
  return Math.min(ZOOMS[1], Math.max(ZOOMS[0], scale));
}

/** Where the stage looks: x and y of its corner in the plane, and scale, the stage's px for one of the plane's. */
export class View {
  x = 0;
  y = 0;
  scale = 1;

  constructor(stage) {
    this.stage = stage;
  }

  get centre() {
    return {
      x: this.x + this.stage.clientWidth / 2 / this.scale,
      y: this.y + this.stage.clientHeight / 2 / this.scale,
    };
  }

  /** A pointer's place in the plane. */
  toPlane({ clientX, clientY }) {
    const { left, top } = this.stage.getBoundingClientRect();
    return { x: this.x + (clientX - left) / this.scale, y: this.y + (clientY - top) / this.scale };
  }

  zoomBy(factor, about = this.centre) {
    const scale = within(this.scale * factor);
    const share = this.scale / scale;
    Object.assign(this, {
      scale,
      x: about.x - (about.x - this.x) * share,
      y: about.y - (about.y - this.y) * share,
    });
  }

  /** Put a point of the plane under a pointer, at this scale. */
  pin(point, { clientX, clientY }, scale) {
    const { left, top } = this.stage.getBoundingClientRect();
    const wanted = within(scale);
    Object.assign(this, {
      scale: wanted,
      x: point.x - (clientX - left) / wanted,
      y: point.y - (clientY - top) / wanted,
    });
  }

  /** Show a rectangle whole. */
  fit(rect) {
    const { clientWidth, clientHeight } = this.stage;
    if (!clientWidth) return;
    const scale = within(0.85 * Math.min(clientWidth / rect.width, clientHeight / rect.height));
    Object.assign(this, {
      scale,
      x: rect.x - (clientWidth / scale - rect.width) / 2,
      y: rect.y - (clientHeight / scale - rect.height) / 2,
    });
  }

  /** Draw everything. scene: {artwork, candidate, stroke, frame, handles, cursor, reach}. */
  render({ artwork, candidate, stroke, frame, handles, cursor, reach }) {
    const { stage } = this;
    const context = stage.getContext("2d");
    const scale = (this.scale * stage.width) / (stage.clientWidth || 1);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, stage.width, stage.height);
    context.setTransform(scale, 0, 0, scale, -this.x * scale, -this.y * scale);
    context.imageSmoothingEnabled = this.scale < 3;
    const { pixels, marks } = artwork;
    if (pixels.canvas) context.drawImage(pixels.canvas, pixels.rect.x, pixels.rect.y);
    if (candidate) {
      const { x, y, width, height } = candidate.rect;
      context.drawImage(candidate.image, x, y, width, height);
    }
    context.globalAlpha = 0.55;
    if (marks.canvas && !candidate) context.drawImage(marks.canvas, marks.rect.x, marks.rect.y);
    if (stroke) {
      context.fillStyle = context.strokeStyle = stroke.marked ? MARK : "#f8fafc";
      trace(stroke)(context);
    }
    context.globalAlpha = 1;
    this.#drawFrame(context, frame, handles);
    if (cursor) this.#drawCursor(context, cursor, reach);
  }

  #drawFrame(context, { x, y, width, height }, handles) {
    const px = 1 / this.scale;
    context.lineWidth = 2 * px;
    for (const [colour, dash] of [
      ["#fff", []],
      [ACCENT, [6 * px, 4 * px]],
    ]) {
      context.strokeStyle = colour;
      context.setLineDash(dash);
      context.strokeRect(x, y, width, height);
    }
    context.setLineDash([]);
    if (!handles) return;
    context.fillStyle = "#fff";
    for (const across of [0, 0.5, 1])
      for (const down of [0, 0.5, 1]) {
        if (across === 0.5 && down === 0.5) continue;
        const square = [x + across * width - 5 * px, y + down * height - 5 * px, 10 * px, 10 * px];
        context.fillRect(...square);
        context.strokeRect(...square);
      }
  }

  #drawCursor(context, { x, y }, reach) {
    for (const [colour, width] of [
      ["#fff", 3],
      ["#111", 1],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = width / this.scale;
      context.beginPath();
      context.arc(x, y, reach, 0, 7);
      context.moveTo(x - reach, y);
      context.lineTo(x + reach, y);
      context.moveTo(x, y - reach);
      context.lineTo(x, y + reach);
      context.stroke();
    }
  }
}
