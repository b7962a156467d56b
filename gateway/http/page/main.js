/** The page: its views, the service's state, and pictures that come in by drop and paste. */

import { model } from "./api.js";
import * as canvas from "./canvas.js";
import * as create from "./create.js";
import * as db from "./db.js";
import { actions } from "./dialogs.js";
import { byId, download, say } from "./dom.js";
import * as history from "./history.js";
import { draggedPicture } from "./pictures.js";
import { begin } from "./tasks.js";

const VIEWS = ["create", "canvas", "history"];
const RETRY_MILLISECONDS = 3000;
const THEME = "unclip-theme";
let similarity = 0.3;

function showView() {
  const name = VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "create";
  for (const view of VIEWS) byId(view).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name === "history") history.refresh();
  if (name === "canvas") canvas.shown();
}

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const dark = theme === "dark";
  byId("theme").textContent = dark ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Use ${dark ? "light" : "dark"} colours`);
}

function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const current = () => localStorage.getItem(THEME) ?? (system.matches ? "dark" : "light");
  showTheme(current());
  system.addEventListener("change", () => showTheme(current()));
  byId("theme").addEventListener("click", () => {
    localStorage.setItem(THEME, current() === "dark" ? "light" : "dark");
    showTheme(current());
  });
}

async function findModel() {
  try {
    const found = await model();
    byId("service").textContent = `${found.name} ${found.version}`;
    similarity = found.default_similarity;
    create.setModel(found);
    canvas.setModel(found);
  } catch (error) {
    byId("service").textContent = "The service does not answer; looking again …";
    byId("service").title = error.message;
    setTimeout(findModel, RETRY_MILLISECONDS);
  }
}

function goTo(view) {
  location.hash = view;
  byId("main").focus();
}

function fillActions() {
  const side = () => ({ ...create.settings(), n: undefined });
  const show = (task) => {
    create.add(task);
    goTo("create");
  };
  actions.similarity = () => similarity;
  actions.vary = (picture, wanted) =>
    show(begin("vary", `Variations of: ${picture.title}`, { ...side(), ...wanted }, { image: picture.blob }));
  actions.mix = (pictures, weight, words) => {
    const sources = [...pictures.map(({ blob }) => ({ blob })), ...(words ? [{ prompt: words }] : [])];
    const weights = words ? [0.6 * (1 - weight), 0.6 * weight, 0.4] : [1 - weight, weight];
    show(
      begin("mix", `Mix of: ${pictures.map(({ title }) => title).join(" + ")}${words ? ` + ${words}` : ""}`, {
        ...create.settings(),
        sources,
        weights,
      }),
    );
  };
  actions.interpolate = ([start, end], frames) =>
    show(
      begin("interpolate", `From: ${start.title} to: ${end.title}`, {
        ...side(),
        start: { blob: start.blob },
        end: { blob: end.blob },
        frames,
      }),
    );
  actions.edit = async (picture) => {
    goTo("canvas");
    await canvas.edit(picture);
  };
}

function takeFiles() {
  addEventListener(
    "dragover",
    (event) => event.dataTransfer.types.includes("Files") && event.preventDefault(),
  );
  addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (!file || draggedPicture(event)) return;
    event.preventDefault();
    take(file, event);
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) take(file, event);
  });
}

function take(file, event) {
  if (byId("canvas").hidden) create.addFile(file);
  else canvas.addFile(file, event);
}

function tellOfFullStorage() {
  db.changes.addEventListener("unkept", ({ detail: { store, record, error } }) => {
    console.warn(error);
    if (store !== "pictures")
      return say(
        "The browser's storage is full or closed to this page: what you do now is lost when you leave. Delete old pictures in the history.",
      );
    const save = () => download(record.blob, `unclip-${record.created}.${record.format}`);
    say(
      "The browser's storage is full: this picture is only in this page and is lost when you leave. Download it, or delete old ones in the history.",
      { action: ["Download it", save] },
    );
  });
}

startTheme();
fillActions();
takeFiles();
tellOfFullStorage();
addEventListener("hashchange", showView);
addEventListener("offline", () =>
  say("You are offline. Your pictures are here; drawing works again when you are back.", { kind: "note" }),
);
findModel();
try {
  await db.load();
} catch (error) {
  say(
    "The browser does not let this page keep pictures (a private window, perhaps). Download what you want to keep.",
  );
  console.warn(error);
}
await create.start();
history.start();
await canvas.start();
showView();
