/** Pictures that people give: read, turned upright, and reduced to what the service takes. */

const MOST_BYTES = 100 * 2 ** 20; // of a file that this page reads at all
const KINDS = ["image/png", "image/jpeg", "image/webp"];

/**
 * A picture for the service, of a file: {blob, width, height, note}. Raises an Error that says what is wrong.
 *
 * limits: max_picture_pixels and max_picture_bytes. Whatever is sent is a PNG, so nothing of the file but its pixels leaves.
 */
export async function picked(file, limits) {
  if (!KINDS.includes(file.type))
    throw new Error("This is no PNG, JPEG or WebP picture. Choose another file.");
  if (file.size > MOST_BYTES)
    throw new Error(
      `This file has ${Math.round(file.size / 2 ** 20)} MB; this page reads up to ${MOST_BYTES / 2 ** 20} MB. Choose a smaller one.`,
    );
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error("The browser cannot read this picture: it is broken, or too large. Choose another file.");
  }
  const { width, height } = bitmap;
  let scale = Math.min(1, Math.sqrt(limits.max_picture_pixels / (width * height)));
  for (;;) {
    const canvas = new OffscreenCanvas(
      Math.max(1, Math.floor(width * scale)),
      Math.max(1, Math.floor(height * scale)),
    );
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const blob = await canvas.convertToBlob({ type: "image/png" });
    if (blob.size <= limits.max_picture_bytes) {
      bitmap.close();
      const note =
        scale < 1
          ? `Reduced from ${width} × ${height} to ${canvas.width} × ${canvas.height} px, the most that the service takes.`
          : "";
      return { blob, width: canvas.width, height: canvas.height, note };
    }
    scale *= 0.8;
  }
}
