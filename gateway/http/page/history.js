/** The view of all pictures in this browser: favourites, collections, search. */

import * as db from "./db.js";
import { newCollection } from "./dialogs.js";
import { byId, confirmed, h } from "./dom.js";
import { pictureTile } from "./pictures.js";

const PAGE = 60; // pictures shown at a time

let shown = PAGE;

/** Set the view up. */
export function start() {
  for (const id of ["filter", "search"]) {
    byId(id).addEventListener("input", () => {
      shown = PAGE;
      show();
    });
  }
  byId("new-collection").addEventListener("click", async () => {
    const collection = await newCollection();
    if (!collection) return;
    await showFilters(collection.id);
    show();
  });
  byId("delete-collection").addEventListener("click", deleteCollection);
  db.changes.addEventListener("pictures", refresh);
  db.changes.addEventListener("collections", refresh);
}

/** Show what there is now, if the view is open. */
export async function refresh() {
  if (byId("history").hidden) return;
  await showFilters(byId("filter").value);
  show();
}

async function showFilters(chosen) {
  const collections = await db.all("collections");
  const named = collections.map(({ id, name }) => [id, name]);
  const options = [["", "all pictures"], ["favourites", "favourites"], ...named];
  const option = ([value, label]) => h("option", { value, selected: value === chosen }, label);
  byId("filter").replaceChildren(...options.map(option));
}

function show() {
  const found = filtered();
  const focused = document.activeElement?.dataset.picture;
  const place = [...byId("gallery").children].indexOf(document.activeElement);
  const showMore = () => {
    shown += PAGE;
    show();
  };
  const more = h("button", { type: "button", onclick: showMore }, "Show more");
  const tiles = found.slice(0, shown).map(pictureTile);
  byId("gallery").replaceChildren(...tiles, ...(found.length > shown ? [more] : []));
  if (focused)
    (tiles.find((tile) => tile.dataset.picture === focused) ?? tiles[place] ?? tiles.at(-1))?.focus();
  byId("gallery-empty").hidden = found.length > 0;
  const filter = byId("filter").value;
  byId("delete-collection").hidden = !filter || filter === "favourites";
  showStorage();
}

function filtered() {
  const filter = byId("filter").value;
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  return db.allPictures().filter((picture) => {
    if (filter === "favourites" && !picture.favourite) return false;
    if (filter && filter !== "favourites" && !picture.collections.includes(filter)) return false;
    const title = picture.title.toLowerCase();
    return words.every((word) => title.includes(word));
  });
}

async function showStorage() {
  const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
  const room = quota
    ? ` They take ${megabytes(usage)} of the ${megabytes(quota)} that the browser gives this page.`
    : "";
  byId("storage").textContent = `Pictures are kept in this browser only.${room}`;
}

function megabytes(bytes) {
  return `${Math.max(1, Math.round(bytes / 2 ** 20)).toLocaleString()} MB`;
}

async function deleteCollection() {
  const id = byId("filter").value;
  if (!(await confirmed("Delete this collection?", "Its pictures stay in the history.", "Delete"))) return;
  await db.remove("collections", id);
  await showFilters("");
  show();
}
