/** What the browser keeps: pictures, drawings, collections and canvases, in IndexedDB. Other tabs hear of changes. */

const NAME = "unclip";
const VERSION = 1;
const STORES = ["pictures", "tasks", "collections", "canvases"];

const others = new BroadcastChannel(NAME);
export const changes = new EventTarget();
const pictures = new Map(); // by id, all of them; their blobs stay on the disk until they are shown
let opened;

others.onmessage = async ({ data: { store, id } }) => {
  if (store === "pictures") {
    const found = await get("pictures", id);
    if (found) pictures.set(id, found);
    else pictures.delete(id);
  }
  changes.dispatchEvent(new CustomEvent(store));
};

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      for (const store of STORES) request.result.createObjectStore(store, { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds an older version open"));
  });
  return opened;
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Read everything that is kept of pictures, and ask the browser not to throw it away. */
export async function load() {
  for (const picture of await all("pictures")) pictures.set(picture.id, picture);
  await navigator.storage?.persist?.().catch(() => false);
}

export async function get(store, id) {
  const database = await open();
  return done(database.transaction(store).objectStore(store).get(id));
}

export async function all(store) {
  const database = await open();
  return done(database.transaction(store).objectStore(store).getAll());
}

/** Keep a record; whether that worked. A picture that cannot be kept stays in this page. */
export async function put(store, record) {
  if (store === "pictures") pictures.set(record.id, record);
  try {
    const database = await open();
    await new Promise((resolve, reject) => {
      const transaction = database.transaction(store, "readwrite", { durability: "strict" });
      transaction.oncomplete = resolve;
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
      transaction.objectStore(store).put(record);
    });
  } catch (error) {
    changes.dispatchEvent(new CustomEvent("unkept", { detail: { store, record, error } }));
    changes.dispatchEvent(new CustomEvent(store));
    return false;
  }
  others.postMessage({ store, id: record.id });
  changes.dispatchEvent(new CustomEvent(store));
  return true;
}

export async function remove(store, id) {
  if (store === "pictures") pictures.delete(id);
  const database = await open();
  await done(database.transaction(store, "readwrite").objectStore(store).delete(id));
  others.postMessage({ store, id });
  changes.dispatchEvent(new CustomEvent(store));
}

/** All pictures, newest first. */
export function allPictures() {
  return [...pictures.values()].sort((a, b) => b.created - a.created || a.index - b.index);
}

export function pictureOf(id) {
  return pictures.get(id);
}
