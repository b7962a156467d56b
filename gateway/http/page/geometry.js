/** Rectangles {x, y, width, height}, the frame's handles, and strokes. */

export const LEAST_FRAME = 16; // px a side

/** The smallest rectangle around both; either may be null. */
export function union(a, b) {
  if (!a || !b) return a ?? b;
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  return {
    x,
    y,
    width: Math.max(a.x + a.width, b.x + b.width) - x,
    height: Math.max(a.y + a.height, b.y + b.height) - y,
  };
}

/** What both have in common, or null. */
export function common(a, b) {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.min(a.x + a.width, b.x + b.width) - x;
  const height = Math.min(a.y + a.height, b.y + b.height) - y;
  return width > 0 && height > 0 ? { x, y, width, height } : null;
}

/** A rectangle of whole px around one that is not. */
export function whole({ x, y, width, height }) {
  const left = Math.floor(x);
  const top = Math.floor(y);
  return { x: left, y: top, width: Math.ceil(x + width) - left, height: Math.ceil(y + height) - top };
}

/** The rectangle, or the middle of it that has no more than ``most`` px. */
export function fitting(rect, most) {
  if (rect.width * rect.height <= most) return { ...rect };
  const side = Math.floor(Math.sqrt(most));
  const width = Math.min(rect.width, side);
  const height = Math.min(rect.height, side);
  return {
    x: rect.x + Math.floor((rect.width - width) / 2),
    y: rect.y + Math.floor((rect.height - height) / 2),
    width,
    height,
  };
}

/** Which sides of a frame a point is at, {x: -1 | 0 | 1, y: ...}; null if it is further away than ``reach``. */
export function grip(frame, { x, y }, reach) {
  const side = (value, from, length) =>
    Math.abs(value - from) < reach ? -1 : Math.abs(value - from - length) < reach ? 1 : 0;
  const within = (value, from, length) => value > from - reach && value < from + length + reach;
  if (!within(x, frame.x, frame.width) || !within(y, frame.y, frame.height)) return null;
  const found = { x: side(x, frame.x, frame.width), y: side(y, frame.y, frame.height) };
  return found.x || found.y ? found : null;
}

/** A frame whose sides were drawn by so much. */
export function resized(from, sides, dx, dy) {
  const rect = { ...from };
  if (sides.x > 0) rect.width = Math.max(LEAST_FRAME, from.width + dx);
  if (sides.y > 0) rect.height = Math.max(LEAST_FRAME, from.height + dy);
  if (sides.x < 0) {
    rect.width = Math.max(LEAST_FRAME, from.width - dx);
    rect.x = from.x + from.width - rect.width;
  }
  if (sides.y < 0) {
    rect.height = Math.max(LEAST_FRAME, from.height - dy);
    rect.y = from.y + from.height - rect.height;
  }
  return rect;
}

/** A function that draws a stroke {tool, points, size} on a context. */
export function trace({ tool, points, size }) {
  return (context) => {
    context.beginPath();
    if (tool === "rectangle") {
      const [a, b] = [points[0], points.at(-1)];
      context.rect(Math.min(a.x, b.x), Math.min(a.y, b.y), Math.abs(b.x - a.x), Math.abs(b.y - a.y));
      return context.fill();
    }
    for (const { x, y } of points) context.lineTo(x, y);
    if (tool === "lasso") return context.fill();
    Object.assign(context, { lineWidth: size, lineCap: "round", lineJoin: "round" });
    if (points.length === 1) context.lineTo(points[0].x + 0.01, points[0].y);
    context.stroke();
  };
}

/** The rectangle of whole px that a stroke covers. */
export function coverOf({ tool, points, size }) {
  const extent = tool === "rectangle" || tool === "lasso" ? 1 : size / 2 + 1;
  const xs = points.map(({ x }) => x);
  const ys = points.map(({ y }) => y);
  const left = Math.min(...xs) - extent;
  const top = Math.min(...ys) - extent;
  return whole({
    x: left,
    y: top,
    width: Math.max(...xs) + extent - left,
    height: Math.max(...ys) + extent - top,
  });
}
