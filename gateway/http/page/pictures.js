/** A picture wherever it is shown: its tile, and the dialog with all that can be done with it. */

import * as db from "./db.js";
import {
  actions,
  captionsDialog,
  collectionsDialog,
  mixDialog,
  requestDialog,
  variationsDialog,
} from "./dialogs.js";
import { confirmed, download, fileName, h, say, showDialog, urlOf } from "./dom.js";

const DRAGGED = "application/x-unclip-picture";
let marked = null; // the first picture of a mix that is chosen by keyboard

/** A tile with a picture, which is opened, dragged onto others to mix them, and dropped on. */
export function pictureTile(picture) {
  const name = `${picture.title}, picture ${picture.index + 1}`;
  const image = h("img", {
    src: urlOf(picture.blob),
    alt: name,
    width: picture.width,
    height: picture.height,
    loading: "lazy",
    draggable: false,
  });
  // No <button>: Firefox does not drag those.
  const tile = h(
    "div",
    {
      role: "button",
      tabIndex: 0,
      class: "tile",
      draggable: true,
      "aria-label": `${picture.favourite ? "Favourite: " : ""}${name}. Open`,
      onclick: () => openPicture(picture.id),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        openPicture(picture.id);
      },
      ondragstart: (event) => event.dataTransfer.setData(DRAGGED, picture.id),
      ondragover: (event) => {
        if (!event.dataTransfer.types.includes(DRAGGED)) return;
        event.preventDefault();
        tile.classList.add("target");
      },
      ondragleave: () => tile.classList.remove("target"),
      ondrop: (event) => dropped(event, tile, picture),
    },
    image,
    picture.favourite && h("span", { class: "star", "aria-hidden": "true" }, "★"),
  );
  return tile;
}

/** The picture that is dragged, if it is one of ours. */
export function draggedPicture(event) {
  return db.pictureOf(event.dataTransfer.getData(DRAGGED));
}

function dropped(event, tile, picture) {
  tile.classList.remove("target");
  const other = draggedPicture(event);
  if (!other) return;
  event.preventDefault();
  event.stopPropagation();
  if (other.id !== picture.id) mixDialog([other, picture]);
}

/** Open a picture. */
export async function openPicture(id) {
  const picture = db.pictureOf(id);
  const task = await db.get("tasks", picture.task).catch(() => null);
  const favourite = h(
    "button",
    { type: "button", "aria-pressed": String(picture.favourite) },
    starred(picture),
  );
  favourite.onclick = async () => {
    picture.favourite = !picture.favourite;
    favourite.textContent = starred(picture);
    favourite.setAttribute("aria-pressed", String(picture.favourite));
    await db.put("pictures", picture);
  };
  const close = (work) => () => {
    dialog.close();
    work();
  };
  const dialog = showDialog(
    picture.title,
    h("img", {
      class: "large",
      src: urlOf(picture.blob),
      alt: picture.title,
      width: picture.width,
      height: picture.height,
    }),
    h(
      "p",
      { class: "hint" },
      `${picture.width} × ${picture.height} px, ${picture.format.toUpperCase()}${picture.seed === undefined ? "" : `, seed ${picture.seed}`}`,
    ),
    h(
      "div",
      { class: "row" },
      h(
        "button",
        { type: "button", class: "primary", onclick: close(() => variationsDialog(picture)) },
        "Variations",
      ),
      h("button", { type: "button", onclick: close(() => actions.edit(picture)) }, "Edit"),
      mixButton(picture, close),
      h("button", { type: "button", onclick: close(() => captionsDialog(picture)) }, "Captions"),
      favourite,
      h("button", { type: "button", onclick: close(() => collectionsDialog(picture)) }, "Collections"),
      h(
        "button",
        {
          type: "button",
          onclick: () => download(picture.blob, fileName(nameOf(picture), picture.format, picture.created)),
        },
        "Download",
      ),
      task && h("button", { type: "button", onclick: close(() => requestDialog(task)) }, "Request"),
      h("button", { type: "button", onclick: () => discard(picture, dialog) }, "Delete"),
    ),
  );
}

function starred(picture) {
  return picture.favourite ? "★ Favourite" : "☆ Favourite";
}

function nameOf(picture) {
  return picture.seed === undefined ? "unclip" : `unclip-seed-${picture.seed}`;
}

async function discard(picture, dialog) {
  if (
    !(await confirmed(
      "Delete this picture?",
      "It is removed from this browser, and nobody else has it.",
      "Delete",
    ))
  )
    return;
  dialog.close();
  await db.remove("pictures", picture.id);
  say("Deleted.", { kind: "note", seconds: 30, action: ["Undo", () => db.put("pictures", picture)] });
}

function mixButton(picture, close) {
  const other = marked && marked.id !== picture.id && db.pictureOf(marked.id);
  if (other)
    return h(
      "button",
      { type: "button", onclick: close(() => mixDialog([other, picture])) },
      "Mix with the chosen one",
    );
  const note = () => {
    marked = picture;
    say("Chosen. Open another picture to mix it with this one, or drag one onto the other.", {
      kind: "note",
    });
  };
  return h("button", { type: "button", onclick: close(note) }, "Mix …");
}
