/** Making elements, and telling people things. */

/**
 * An element. Properties that begin with "on" are listeners, "data" and "aria-..." attributes; others are set as they are.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "class") element.className = value;
    else if (name.startsWith("aria-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** The element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** A new name for something that is kept. (crypto.randomUUID is there on HTTPS and loopback only.) */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
}

/** What the browser remembers under a name; null if nothing, or if it may not. */
export function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Have the browser remember a text, if it may. */
export function remember(name, text) {
  try {
    localStorage.setItem(name, text);
  } catch {
    // It is forgotten when the page is left.
  }
}

let lastAnnounced = 0;

/** Tell those who listen to a screen reader; what is not urgent, at most every other second. */
export function announce(text, urgent = true) {
  const now = Date.now();
  if (!urgent && now - lastAnnounced < 2000) return;
  lastAnnounced = now;
  byId("announcer").textContent = text;
}

/** Show a problem until it is closed, or a note for a while. action: [label, function]. Returns what closes it. */
export function say(text, { action, seconds = 12, kind = "problem", topic = text } = {}) {
  const messages = byId("messages");
  for (const other of [...messages.children]) if (other.dataset.topic === topic) other.remove();
  const close = () => box.remove();
  const act = () => {
    close();
    action[1]();
  };
  const box = h(
    "div",
    { class: `message ${kind}`, data: { topic } },
    h("p", {}, text),
    action && h("button", { type: "button", onclick: act }, action[0]),
    h("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: close }, "×"),
  );
  messages.append(box);
  if (kind === "note") setTimeout(close, seconds * 1000);
  return close;
}

/** Messages stand in the dialog that is on top, since all else is out of reach then. */
function placeMessages() {
  const top = [...document.querySelectorAll("dialog[open]")].at(-1);
  if (top) top.querySelector(".dialog-head").after(byId("tell"));
  else document.querySelector("header").after(byId("tell"));
}

/** Show a dialog and return it. It is removed when it closes. */
export function showDialog(title, ...children) {
  const heading = h("h2", { id: `dialog-${newId()}` }, title);
  const close = h(
    "button",
    { type: "button", class: "quiet close", "aria-label": "Close", onclick: () => dialog.close() },
    "×",
  );
  const dialog = h(
    "dialog",
    { "aria-labelledby": heading.id },
    h("div", { class: "dialog-head" }, heading, close),
    ...children,
  );
  const before = document.activeElement;
  let pressedOutside = false;
  dialog.addEventListener("pointerdown", (event) => {
    pressedOutside = isOutside(dialog, event);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog && pressedOutside && isOutside(dialog, event)) dialog.close();
  });
  dialog.addEventListener("close", () => {
    dialog.removeAttribute("open");
    placeMessages();
    dialog.remove();
    // A picture's tile may have been made anew since.
    const id = before?.isConnected ? null : before?.dataset.picture;
    if (id) document.querySelector(`.view:not([hidden]) [data-picture="${id}"]`)?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  placeMessages();
  return dialog;
}

function isOutside(element, { clientX, clientY }) {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  return clientX < left || clientX > right || clientY < top || clientY > bottom;
}

/** Ask for a text. Resolves to null if nothing was given. */
export function ask(title, label, button) {
  return new Promise((resolve) => {
    const input = h("input", { type: "text", required: true, maxLength: 80 });
    let given = null;
    const submit = (event) => {
      event.preventDefault();
      given = input.value.trim() || null;
      dialog.close();
    };
    const form = h(
      "form",
      { class: "stack", onsubmit: submit },
      h("label", {}, label, input),
      h("button", { type: "submit", class: "primary" }, button),
    );
    const dialog = showDialog(title, form);
    dialog.addEventListener("close", () => resolve(given));
    input.focus();
  });
}

/** Ask whether to go on. */
export function confirmed(title, text, button) {
  return new Promise((resolve) => {
    let yes = false;
    const agree = () => {
      yes = true;
      dialog.close();
    };
    const go = h("button", { type: "button", class: "primary", onclick: agree }, button);
    const keep = h("button", { type: "button", onclick: () => dialog.close() }, "Keep");
    const dialog = showDialog(title, h("p", {}, text), h("div", { class: "row" }, go, keep));
    dialog.addEventListener("close", () => resolve(yes));
  });
}

const urls = new Map(); // of pictures, by id

/** A picture's address, as long as it is kept. */
export function urlOf(picture) {
  if (!urls.has(picture.id)) urls.set(picture.id, URL.createObjectURL(picture.blob));
  return urls.get(picture.id);
}

/** A picture is no longer kept. */
export function forgetUrl(id) {
  URL.revokeObjectURL(urls.get(id));
  urls.delete(id);
}

/** Show a blob in an image, for as long as it shows nothing else. */
export function showBlob(image, blob) {
  if (image.shown === blob) return;
  image.shown = blob;
  const url = URL.createObjectURL(blob);
  image.onload = image.onerror = () => URL.revokeObjectURL(url);
  image.src = url;
}

/** Have the browser save a blob as a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A file's name with the time in it. */
export function fileName(name, form, when = Date.now()) {
  return `${name}-${new Date(when).toISOString().slice(0, 19).replace(/[:T]/g, "-")}.${form}`;
}

/** Let a file be chosen. Resolves to it; never, if none is. */
export function chooseFile() {
  const input = byId("file");
  input.value = "";
  return new Promise((resolve) => {
    input.onchange = () => input.files[0] && resolve(input.files[0]);
    input.click();
  });
}
