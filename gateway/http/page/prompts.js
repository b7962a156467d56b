/** Prompts for those who want to be surprised: of what the bundle that ships knows. */

const WHO = [
  "a red fox",
  "two owls",
  "a small penguin",
  "a big elephant",
  "a guitar",
  "a hot air balloon",
  "a birthday cake",
  "a robot",
  "a dragon",
  "three mushrooms",
  "a sailboat",
  "a snowman",
  "a panda",
  "a bicycle",
  "a rocket",
  "a cactus",
];
const WHERE = [
  "on a sandy beach",
  "in the snow",
  "in a forest",
  "in front of a castle",
  "on a wooden table",
  "in the desert",
  "under the night sky",
  "in a meadow",
  "in the city",
  "by the sea",
];
const WHEN = ["", "", "", ", in the evening", ", in the rain", ", at night", ", in the fog"];

function one(list) {
  return list[crypto.getRandomValues(new Uint32Array(1))[0] % list.length];
}

/** A prompt. */
export function surprise() {
  return `${one(WHO)} ${one(WHERE)}${one(WHEN)}`;
}
