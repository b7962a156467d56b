/** How far a picture is, in words and as a share. */

const STAGES = {
  text_encoder: "reading the prompt",
  image_encoder: "looking at the picture",
  prior: "imagining",
  decoder: "drawing",
  upsampler: "sharpening",
};
// What share of a picture's way each stage is: drawing is most of it.
const SHARES = {
  text_encoder: [0, 0.02],
  image_encoder: [0, 0.02],
  prior: [0.02, 0.1],
  decoder: [0.1, 0.85],
  upsampler: [0.85, 1],
};

/** How far a picture is, from 0 to 1. */
export function shareOf({ stage, step, steps, frame, frames }) {
  const [from, to] = SHARES[stage] ?? [0, 1];
  const share = from + ((to - from) * step) / steps;
  return frames > 1 && (stage === "decoder" || stage === "upsampler") ? (frame + share) / frames : share;
}

/** What is being done, in words. */
export function progressText({ stage, step, steps, frame, frames }) {
  const part = frames > 1 ? `part ${frame + 1} of ${frames}: ` : "";
  return `${part}${STAGES[stage] ?? stage}, step ${step} of ${steps}`;
}
