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

let lastAnnounced = 0;

/** Tell those who listen to a screen reader; what is not urgent, at most every other second. */
export function announce(text, urgent = true) {
  const now = Date.now();
  if (!urgent && now - lastAnnounced < 2000) return;
  lastAnnounced = now;
  byId("announcer").textContent = text;
}

/** Show a sentence until it is closed, or for a while. action: [label, function]. */
export function say(text, { action, seconds = 12, kind = "problem" } = {}) {
  const messages = byId("messages");
  for (const other of messages.children) if (other.dataset.text === text) other.remove();
  const close = () => box.remove();
  const act = () => {
    close();
    action[1]();
  };
  const box = h(
    "div",
    { class: `message ${kind}`, data: { text } },
    h("p", {}, text),
    action && h("button", { type: "button", onclick: act }, action[0]),
    h("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: close }, "×"),
  );
  messages.append(box);
  if (!action) setTimeout(close, seconds * 1000);
  return close;
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
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask for a text. Resolves to null if nothing was given. */
export function ask(title, label, button) {
  return new Promise((resolve) => {
    const input = h("input", { type: "text", required: true, maxLength: 80 });
    const form = h(
      "form",
      {
        class: "stack",
        onsubmit: (event) => {
          event.preventDefault();
          given = input.value.trim() || null;
          dialog.close();
        },
      },
      h("label", {}, label, input),
      h("button", { type: "submit", class: "primary" }, button),
    );
    let given = null;
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
    const dialog = showDialog(
      title,
      h("p", {}, text),
      h("div", { class: "row" }, go, h("button", { type: "button", onclick: () => dialog.close() }, "Keep")),
    );
    dialog.addEventListener("close", () => resolve(yes));
  });
}

const urls = new WeakMap();

/** A blob's address, always the same. */
export function urlOf(blob) {
  if (!urls.has(blob)) urls.set(blob, URL.createObjectURL(blob));
  return urls.get(blob);
}

/** Have the browser save a blob as a file. */
export function download(blob, name) {
  h("a", { href: urlOf(blob), download: name }).click();
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
