/** What is asked before something is done with a picture. */

import { rank } from "./api.js";
import * as db from "./db.js";
import { announce, ask, download, h, newId, say, showDialog, urlOf } from "./dom.js";
import { picturesOf, snippets } from "./snippets.js";

/** What the views do for pictures, and what they know of the model; main.js fills it in. */
export const actions = {
  vary: null,
  mix: null,
  interpolate: null,
  edit: null,
  place: null,
  similarity: null,
  model: null,
  most: null,
};

function range(label, value, told) {
  const output = h("output", {}, told(value));
  const show = () => {
    output.textContent = told(Number(input.value));
  };
  const input = h("input", { type: "range", min: 0, max: 1, step: 0.05, value, oninput: show });
  return [h("label", {}, label, input, output), input];
}

function count(label, least, value) {
  const input = h("input", { type: "number", required: true, min: least, max: actions.most(), value });
  return [h("label", {}, label, input), input];
}

/** Ask how to vary a picture. */
export function variationsDialog(picture) {
  const percent = (value) => `${Math.round(100 * value)} %`;
  const [similarityLabel, similarity] = range("Similarity", actions.similarity(), percent);
  const [countLabel, n] = count("Pictures", 1, 4);
  const before = h("input", { type: "text", placeholder: "a cat" });
  const after = h("input", { type: "text", placeholder: "a lion" });
  const words = [before, after];
  const both = () => {
    for (const input of words) input.required = words.some(({ value }) => value !== "");
  };
  const turning = h(
    "details",
    { oninput: both },
    h("summary", {}, "Turn it by words"),
    h("label", {}, "What it shows", before),
    h("label", {}, "What it shall show instead", after),
  );
  const submit = (event) => {
    event.preventDefault();
    dialog.close();
    const turned = before.value ? { from_text: before.value, to_text: after.value } : {};
    actions.vary(picture, { n: Number(n.value), similarity: Number(similarity.value), ...turned });
  };
  const dialog = showDialog(
    "Variations",
    h("img", { class: "small", src: urlOf(picture), alt: picture.title }),
    h(
      "form",
      { class: "stack", onsubmit: submit },
      similarityLabel,
      h("p", { class: "hint" }, "0 %: like it in meaning. 100 %: the picture itself."),
      countLabel,
      turning,
      h("button", { type: "submit", class: "primary" }, "Draw variations"),
    ),
  );
}

/** Ask how to mix two pictures. */
export function mixDialog(pictures) {
  const words = h("input", { type: "text", placeholder: "in the snow" });
  const parts = (value) => `${Math.round(100 * (1 - value))} : ${Math.round(100 * value)}`;
  const [weightLabel, weight] = range("From the first to the second", 0.5, parts);
  const [framesLabel, frames] = count("Pictures on the way", 2, 5);
  const mix = (event) => {
    event.preventDefault();
    dialog.close();
    actions.mix(pictures, Number(weight.value), words.value.trim());
  };
  const interpolate = (event) => {
    event.preventDefault();
    dialog.close();
    actions.interpolate(pictures, Number(frames.value));
  };
  const dialog = showDialog(
    "Mix two pictures",
    h(
      "div",
      { class: "pair" },
      pictures.map((picture) => h("img", { src: urlOf(picture), alt: picture.title })),
    ),
    h(
      "form",
      { class: "stack", onsubmit: mix },
      weightLabel,
      h("label", {}, "And words, if you like", words),
      h("button", { type: "submit", class: "primary" }, "Mix"),
    ),
    h(
      "form",
      { class: "row", onsubmit: interpolate },
      framesLabel,
      h("button", { type: "submit" }, "Draw the way"),
    ),
  );
}

/** Ask for captions, and order them by how well they fit a picture. */
export function captionsDialog(picture) {
  const captions = h("textarea", { rows: 4, required: true, placeholder: "a fox\nan owl\na castle" });
  const list = h("ol", { class: "ranking" });
  const button = h("button", { type: "submit", class: "primary" }, "Which fits best?");
  const submit = async (event) => {
    event.preventDefault();
    const lines = captions.value.split("\n").map((line) => line.trim());
    const given = [...new Set(lines.filter(Boolean))];
    if (given.length < 2) return say("Write two captions or more, each on a line of its own.");
    button.disabled = true;
    try {
      const found = await rank(picture.blob, given, actions.model());
      list.replaceChildren(...found.map(ranked));
      announce(`Fits best: ${found[0].caption}`);
    } catch (error) {
      say(error.message);
    }
    button.disabled = false;
  };
  showDialog(
    "Captions",
    h("img", { class: "small", src: urlOf(picture), alt: picture.title }),
    h(
      "form",
      { class: "stack", onsubmit: submit },
      h("label", {}, "Captions, one on each line", captions),
      button,
    ),
    list,
  );
}

function ranked({ caption, probability }) {
  const share = `${(100 * probability).toFixed(1)} %`;
  return h("li", {}, h("meter", { value: probability, "aria-label": caption }), ` ${caption}: ${share}`);
}

/** Ask which collections a picture is in. */
export async function collectionsDialog(picture) {
  const collections = await db.all("collections");
  const boxes = collections.map((collection) => {
    const box = h("input", { type: "checkbox", checked: picture.collections.includes(collection.id) });
    box.onchange = () => {
      const others = picture.collections.filter((id) => id !== collection.id);
      picture.collections = box.checked ? [...others, collection.id] : others;
      db.update(picture);
    };
    return h("label", { class: "check" }, box, collection.name);
  });
  const more = async () => {
    dialog.close();
    const collection = await newCollection();
    if (!collection) return;
    picture.collections = [...picture.collections, collection.id];
    await db.update(picture);
  };
  const none = h("p", { class: "hint" }, "There are no collections yet.");
  const button = h("button", { type: "button", onclick: more }, "New collection with this picture");
  const dialog = showDialog("Collections", h("div", { class: "stack" }, boxes.length ? boxes : none, button));
}

/** Ask for a name, and make a collection. */
export async function newCollection() {
  const name = await ask("New collection", "Name", "Make it");
  if (!name) return null;
  const collection = { id: newId(), name };
  await db.put("collections", collection);
  return collection;
}

/** Show a drawing's request for programs, with the pictures that it has. */
export function requestDialog(task) {
  const pictures = picturesOf(task.request).map(([name, blob]) =>
    h("button", { type: "button", onclick: () => download(blob, name) }, `Download ${name}`),
  );
  showDialog(
    "The same request from a program",
    pictures.length > 0 && h("div", { class: "row" }, pictures),
    snippets(task.request).map(([name, text]) => {
      const shown = h("pre", { tabIndex: 0, "aria-label": `${name} request` }, text);
      const button = h("button", { type: "button", onclick: () => copy(shown, name) }, `Copy ${name}`);
      return h("section", { class: "snippet" }, h("h3", {}, name), shown, button);
    }),
  );
}

/** Copy what an element says. On plain http only the old way is open. */
async function copy(element, name) {
  const done = navigator.clipboard
    ? await navigator.clipboard.writeText(element.textContent).then(
        () => true,
        () => false,
      )
    : copySelected(element);
  if (done) say(`${name} copied.`, { kind: "note", seconds: 3 });
  else say("The browser does not let this page copy. The text is selected: copy it yourself.");
}

function copySelected(element) {
  getSelection().selectAllChildren(element);
  return document.execCommand("copy");
}
