/**
 * What the browser keeps: pictures, drawings, collections and canvases, in IndexedDB. Other tabs hear of changes.
 *
 * Everything is in this page's memory too. So a page that may not keep anything works, and loses it when it is left.
 */

const NAME = "unclip";
const VERSION = 1;
const STORES = ["pictures", "tasks", "collections", "canvases"];

const others = new BroadcastChannel(NAME);
/** Its events are named after the stores; "unkept": what could not be kept is another. */
export const changes = new EventTarget();
const pictures = new Map(); // by id, all of them; their blobs stay on the disk until they are shown
const unkept = new Map(); // by id: {store, record}
let opened = null;
let asked = false;

others.onmessage = async ({ data: { store, id } }) => {
  if (store === "pictures") {
    const found = await get("pictures", id);
    if (found) pictures.set(id, found);
    else pictures.delete(id);
  }
  changes.dispatchEvent(new CustomEvent(store, { detail: id }));
};

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      for (const store of STORES) request.result.createObjectStore(store, { keyPath: "id" });
    };
    request.onsuccess = () => {
      request.result.onclose = forgetConnection;
      request.result.onversionchange = () => {
        request.result.close();
        forgetConnection();
      };
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds an older version open"));
  });
  opened.catch(forgetConnection);
  return opened;
}

function forgetConnection() {
  opened = null;
}

/** Read what is kept of pictures. Raises if the browser keeps nothing for this page. */
export async function load() {
  for (const picture of await stored("pictures")) pictures.set(picture.id, picture);
}

/** A record, or undefined. */
export async function get(store, id) {
  if (unkept.has(id)) return unkept.get(id).record;
  try {
    const database = await open();
    return await done(database.transaction(store).objectStore(store).get(id));
  } catch {
    return undefined;
  }
}

/** All records of a store. */
export async function all(store) {
  const mine = [...unkept.values()].filter((entry) => entry.store === store).map(({ record }) => record);
  const found = await stored(store).catch(() => []);
  return [...found.filter(({ id }) => !unkept.has(id)), ...mine];
}

async function stored(store) {
  const database = await open();
  return done(database.transaction(store).objectStore(store).getAll());
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Keep a record. One that cannot be kept stays in this page, and is tried again when something is removed. */
export async function put(store, record) {
  if (store === "pictures") pictures.set(record.id, record);
  try {
    await write(store, (target) => target.put(record));
    unkept.delete(record.id);
    persist();
  } catch (error) {
    console.warn(error);
    unkept.set(record.id, { store, record });
    changes.dispatchEvent(new Event("unkept"));
  }
  told(store, record.id);
}

/** Keep a picture that was changed, unless it was deleted meanwhile. */
export async function update(picture) {
  if (pictures.has(picture.id)) await put("pictures", picture);
}

/** Remove a record. */
export async function remove(store, id) {
  if (store === "pictures") pictures.delete(id);
  unkept.delete(id);
  await write(store, (target) => target.delete(id)).catch(console.warn);
  told(store, id);
  for (const entry of [...unkept.values()]) await put(entry.store, entry.record);
  changes.dispatchEvent(new Event("unkept"));
}

async function write(store, work) {
  const database = await open();
  await new Promise((resolve, reject) => {
    const transaction = database.transaction(store, "readwrite", { durability: "strict" });
    transaction.oncomplete = resolve;
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error ?? new Error("the browser gave up keeping it"));
    work(transaction.objectStore(store));
  });
}

function told(store, id) {
  others.postMessage({ store, id });
  changes.dispatchEvent(new CustomEvent(store, { detail: id }));
}

/** Ask the browser, once, not to throw away what is kept. Firefox asks the person, so nothing waits for it. */
function persist() {
  if (asked) return;
  asked = true;
  navigator.storage?.persist?.().catch(() => false);
}

/** All pictures, newest first. */
export function allPictures() {
  return [...pictures.values()].sort((a, b) => b.created - a.created || a.index - b.index);
}

/** A picture, or undefined. */
export function pictureOf(id) {
  return pictures.get(id);
}

/** Records that could not be kept. */
export function unkeptRecords() {
  return [...unkept.values()];
}
