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
import { confirmed, download, fileName, forgetUrl, h, say, showDialog, urlOf } from "./dom.js";
import { taskOf } from "./tasks.js";

const DRAGGED = "application/x-unclip-picture";
let chosen = null; // the id of the first picture of a mix that is chosen by keyboard

/** A tile with a picture, which is opened, dragged onto others to mix them, and dropped on. */
export function pictureTile(picture) {
  const name = `${picture.title}, picture ${picture.index + 1}`;
  const { width, height } = picture;
  const image = h("img", { src: urlOf(picture), alt: "", width, height, loading: "lazy", draggable: false });
  const open = () => openPicture(picture.id);
  // No <button>: Firefox does not drag those.
  const tile = h(
    "div",
    {
      role: "button",
      tabIndex: 0,
      class: "tile",
      draggable: true,
      data: { picture: picture.id },
      "aria-label": `${picture.favourite ? "Favourite: " : ""}${name}. Open`,
      onclick: open,
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        open();
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
  if (!picture) return say("This picture was deleted.");
  const task = picture.task && (await taskOf(picture.task));
  const close = (work) => () => {
    dialog.close();
    work();
  };
  const button = (label, work, properties = {}) =>
    h("button", { type: "button", onclick: work, ...properties }, label);
  const { width, height, format, seed } = picture;
  const facts = `${width} × ${height} px, ${format.toUpperCase()}${seed === undefined ? "" : `, seed ${seed}`}`;
  const dialog = showDialog(
    picture.title,
    h("img", { class: "large", src: urlOf(picture), alt: picture.title, width, height }),
    h("p", { class: "hint" }, facts),
    h(
      "div",
      { class: "row" },
      button(
        "Variations",
        close(() => variationsDialog(picture)),
        { class: "primary" },
      ),
      button(
        "Edit",
        close(() => actions.edit(picture)),
      ),
      button(
        "Put on the canvas",
        close(() => actions.place(picture)),
      ),
      mixButtons(picture, button, close),
      button(
        "Captions",
        close(() => captionsDialog(picture)),
      ),
      favouriteButton(picture, button),
      button(
        "Collections",
        close(() => collectionsDialog(picture)),
      ),
      button("Download", () => download(picture.blob, fileName(nameOf(picture), format, picture.created))),
      task &&
        button(
          "Request",
          close(() => requestDialog(task.record)),
        ),
      button("Delete", () => discard(picture, dialog)),
    ),
  );
}

function favouriteButton(picture, button) {
  const show = () => {
    made.textContent = picture.favourite ? "★ Favourite" : "☆ Favourite";
    made.setAttribute("aria-pressed", String(picture.favourite));
  };
  const made = button("", () => {
    picture.favourite = !picture.favourite;
    show();
    db.update(picture);
  });
  show();
  return made;
}

/** "Mix …" chooses the first picture of a mix; then another one offers to be mixed with it. */
function mixButtons(picture, button, close) {
  const other = chosen !== picture.id && db.pictureOf(chosen);
  const mix = () => {
    chosen = null;
    mixDialog([other, picture]);
  };
  const choose = () => {
    chosen = picture.id;
    const text = "Chosen. Open another picture to mix it with this one, or drag one onto the other.";
    say(text, { kind: "note" });
  };
  const buttons = [button("Mix …", close(choose))];
  return other ? [button("Mix with the chosen one", close(mix)), ...buttons] : buttons;
}

function nameOf(picture) {
  return picture.seed === undefined ? "unclip" : `unclip-seed-${picture.seed}`;
}

async function discard(picture, dialog) {
  const text = "It is removed from this browser, and nobody else has it.";
  if (!(await confirmed("Delete this picture?", text, "Delete"))) return;
  dialog.close();
  const undo = await deletePicture(picture);
  say("Deleted.", { kind: "note", seconds: 30, action: ["Undo", undo] });
}

/** Delete a picture, and its drawing with the last of them. Returns what puts both back. */
async function deletePicture(picture) {
  const task = picture.task && (await taskOf(picture.task));
  const { record } = task ?? {};
  if (record) record.deleted = [...(record.deleted ?? []), picture.index];
  await db.remove("pictures", picture.id);
  const last = task && !task.running && !db.allPictures().some((other) => other.task === picture.task);
  if (last) await db.remove("tasks", picture.task);
  else if (task) await db.put("tasks", record);
  return async () => {
    if (record) {
      record.deleted = record.deleted.filter((index) => index !== picture.index);
      await db.put("tasks", record);
    }
    await db.put("pictures", picture);
  };
}

db.changes.addEventListener("pictures", ({ detail: id }) => {
  if (!db.pictureOf(id)) forgetUrl(id);
});
