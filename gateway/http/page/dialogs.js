/** What is asked before something is done with a picture. */

import { rank } from "./api.js";
import * as db from "./db.js";
import { announce, ask, h, say, showDialog, urlOf } from "./dom.js";
import { snippets } from "./snippets.js";

/** What the views do for pictures; main.js fills it in. */
export const actions = { vary: null, mix: null, interpolate: null, edit: null, similarity: null };

function range(label, value, told) {
  const output = h("output", {}, told(value));
  const input = h("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    value,
    oninput: () => (output.textContent = told(Number(input.value))),
  });
  return [h("label", {}, label, input, output), input];
}

/** Ask how to vary a picture. */
export function variationsDialog(picture) {
  const percent = (value) => `${Math.round(100 * value)} %`;
  const [label, similarity] = range("Similarity", actions.similarity(), percent);
  const count = h("input", { type: "number", min: 1, max: 10, value: 4 });
  const before = h("input", { type: "text", placeholder: "a cat" });
  const after = h("input", { type: "text", placeholder: "a lion" });
  const submit = (event) => {
    event.preventDefault();
    const words = before.value && after.value ? { from_text: before.value, to_text: after.value } : {};
    dialog.close();
    actions.vary(picture, { n: Number(count.value), similarity: Number(similarity.value), ...words });
  };
  const dialog = showDialog(
    "Variations",
    h("img", { class: "small", src: urlOf(picture.blob), alt: picture.title }),
    h(
      "form",
      { class: "stack", onsubmit: submit },
      label,
      h("p", { class: "hint" }, "0 %: like it in meaning. 100 %: the picture itself."),
      h("label", {}, "Pictures", count),
      h(
        "details",
        {},
        h("summary", {}, "Turn it by words"),
        h("label", {}, "What it shows", before),
        h("label", {}, "What it shall show instead", after),
      ),
      h("button", { type: "submit", class: "primary" }, "Draw variations"),
    ),
  );
}

/** Ask how to mix pictures. */
export function mixDialog(pictures) {
  const words = h("input", { type: "text", placeholder: "in the snow" });
  const [label, weight] = range(
    "From the first to the second",
    0.5,
    (value) => `${Math.round(100 * (1 - value))} : ${Math.round(100 * value)}`,
  );
  const frames = h("input", { type: "number", min: 2, max: 10, value: 5 });
  const mix = (event) => {
    event.preventDefault();
    dialog.close();
    actions.mix(pictures, Number(weight.value), words.value.trim());
  };
  const interpolate = () => {
    dialog.close();
    actions.interpolate(pictures, Number(frames.value));
  };
  const dialog = showDialog(
    "Mix two pictures",
    h(
      "div",
      { class: "pair" },
      pictures.map((picture) => h("img", { src: urlOf(picture.blob), alt: picture.title })),
    ),
    h(
      "form",
      { class: "stack", onsubmit: mix },
      label,
      h("label", {}, "And words, if you like", words),
      h("button", { type: "submit", class: "primary" }, "Mix"),
      h(
        "div",
        { class: "row" },
        h("label", {}, "Pictures on the way", frames),
        h("button", { type: "button", onclick: interpolate }, "Draw the way"),
      ),
    ),
  );
}

/** Ask for captions, and order them by how well they fit a picture. */
export function captionsDialog(picture) {
  const captions = h("textarea", { rows: 4, required: true, placeholder: "a fox\nan owl\na castle" });
  const list = h("ol", { class: "ranking" });
  const submit = async (event) => {
    event.preventDefault();
    const lines = [
      ...new Set(
        captions.value
          .split("\n")
          .map((line) => line.trim())
          .filter(Boolean),
      ),
    ];
    if (lines.length < 2) return say("Write two captions or more, each on a line of its own.");
    button.disabled = true;
    try {
      const found = await rank(picture.blob, lines);
      list.replaceChildren(
        ...found.map(({ caption, probability }) =>
          h(
            "li",
            {},
            h("meter", { value: probability, "aria-label": caption }),
            ` ${caption}: ${(100 * probability).toFixed(1)} %`,
          ),
        ),
      );
      announce(`Fits best: ${found[0].caption}`);
    } catch (error) {
      say(error.message);
    }
    button.disabled = false;
  };
  const button = h("button", { type: "submit", class: "primary" }, "Which fits best?");
  showDialog(
    "Captions",
    h("img", { class: "small", src: urlOf(picture.blob), alt: picture.title }),
    h(
      "form",
      { class: "stack", onsubmit: submit },
      h("label", {}, "Captions, one on each line", captions),
      button,
    ),
    list,
  );
}

/** Ask which collections a picture is in. */
export async function collectionsDialog(picture) {
  const collections = await db.all("collections");
  const boxes = collections.map((collection) => {
    const box = h("input", { type: "checkbox", checked: picture.collections.includes(collection.id) });
    box.onchange = () => {
      picture.collections = box.checked
        ? [...picture.collections, collection.id]
        : picture.collections.filter((id) => id !== collection.id);
      db.put("pictures", picture);
    };
    return h("label", { class: "check" }, box, collection.name);
  });
  const more = async () => {
    dialog.close();
    const collection = await newCollection();
    if (!collection) return;
    picture.collections = [...picture.collections, collection.id];
    await db.put("pictures", picture);
  };
  const none = h("p", { class: "hint" }, "There are no collections yet.");
  const dialog = showDialog(
    "Collections",
    h(
      "div",
      { class: "stack" },
      boxes.length ? boxes : none,
      h("button", { type: "button", onclick: more }, "New collection with this picture"),
    ),
  );
}

/** Ask for a name, and make a collection. */
export async function newCollection() {
  const name = await ask("New collection", "Name", "Make it");
  if (!name) return null;
  const collection = { id: `collection-${Date.now()}`, name };
  await db.put("collections", collection);
  return collection;
}

/** Show a drawing's request for programs. */
export function requestDialog(task) {
  showDialog(
    "The same request from a program",
    snippets(task.request).map(([name, text]) =>
      h(
        "section",
        { class: "snippet" },
        h("h3", {}, name),
        h("pre", { tabIndex: 0, "aria-label": `${name} request` }, text),
        h("button", { type: "button", onclick: () => copy(text, name) }, `Copy ${name}`),
      ),
    ),
  );
}

async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${name} copied`);
    say(`${name} copied.`, { kind: "note", seconds: 3 });
  } catch {
    say("The browser does not let this page copy. Select the text and copy it yourself.");
  }
}
