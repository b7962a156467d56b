/** The page: its views, the service's state, and pictures that come in by drop and paste. */

import { hasKey, models, Problem, useKey } from "./api.js";
import * as canvas from "./canvas.js";
import * as create from "./create.js";
import * as db from "./db.js";
import { actions } from "./dialogs.js";
import { ask, byId, download, fileName, remember, remembered, say } from "./dom.js";
import * as history from "./history.js";
import { draggedPicture } from "./pictures.js";
import { begin } from "./tasks.js";

const VIEWS = ["create", "canvas", "history"];
const RETRY_MILLISECONDS = 3000;
const THEME = "unclip-theme";
const MODEL = "unclip-model";
let known = { default_similarity: 0.3, max_n: 10 }; // of the model, until it is known

function showView() {
  const asked = location.hash.slice(1) || "create";
  if (!VIEWS.includes(asked)) return; // a place within a view
  const name = asked;
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
  const current = () => remembered(THEME) ?? (system.matches ? "dark" : "light");
  showTheme(current());
  system.addEventListener("change", () => showTheme(current()));
  byId("theme").addEventListener("click", () => {
    remember(THEME, current() === "dark" ? "light" : "dark");
    showTheme(current());
  });
}

async function findModel() {
  try {
    const found = await models();
    if (!found.length) throw new Problem("No model is there yet.");
    const use = (name) => useModel(found.find((model) => model.name === name));
    create.offerModels(found, (name) => {
      remember(MODEL, name);
      use(name);
    });
    const chosen = found.some(({ name }) => name === remembered(MODEL)) ? remembered(MODEL) : found[0].name;
    byId("model").value = chosen;
    use(chosen);
  } catch (error) {
    if (error.status === 401) return askForKey();
    byId("service").textContent = "The service does not answer; looking again …";
    byId("service").title = error.message;
    setTimeout(findModel, RETRY_MILLISECONDS);
  }
}

function useModel(model) {
  byId("service").textContent = `${model.name} ${model.version}`;
  known = model;
  create.setModel(model);
  canvas.setModel(model);
}

/** The service lets in only those with an API key. It stays in this browser. */
async function askForKey() {
  const text = hasKey() ? "The service does not accept this API key" : "The service asks for an API key";
  byId("service").textContent = `${text}.`;
  await changeKey(text);
}

async function changeKey(title) {
  const key = await ask(title, "Your key, which stays in this browser", "Use it");
  if (!key) return;
  if (!useKey(key)) return say("This is no API key: it has letters that no key has. Copy it again.");
  await findModel();
}

function goTo(view) {
  location.hash = view;
  showView();
  byId("main").focus();
}

function fillActions() {
  const side = () => ({ ...create.settings(), n: undefined });
  const show = (task) => {
    create.add(task);
    goTo("create");
  };
  actions.similarity = () => known.default_similarity;
  actions.model = create.chosenModel;
  actions.most = () => known.max_n;
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
  actions.place = async (picture) => {
    goTo("canvas");
    await canvas.place(picture);
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
  let close = () => {};
  let told = 0;
  db.changes.addEventListener("unkept", () => {
    const count = db.unkeptRecords().length;
    if (count === told) return;
    told = count;
    close();
    const pictures = db.unkeptRecords().filter(({ store }) => store === "pictures");
    if (!db.unkeptRecords().length) return;
    const advice = "Delete old pictures in the history: what is not kept yet is kept then.";
    if (!pictures.length) {
      close = say(`The browser's storage is full or closed to this page. ${advice}`, { topic: "storage" });
      return;
    }
    const text = `The browser's storage is full: ${pictures.length} of your pictures are only in this page. Download them. ${advice}`;
    const save = () => {
      for (const { record } of pictures)
        download(record.blob, fileName(`unclip-${record.index + 1}`, record.format, record.created));
    };
    close = say(text, { action: [`Download ${pictures.length}`, save], topic: "storage" });
  });
  addEventListener("beforeunload", (event) => {
    if (db.unkeptRecords().length) event.preventDefault();
  });
}

function listen() {
  byId("key").addEventListener("click", () => changeKey("Another API key"));
  byId("key").hidden = !hasKey();
  addEventListener("unclip-key", () => {
    byId("key").hidden = false;
  });
  addEventListener("hashchange", showView);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  // A field that is wrong is shown, wherever it is folded away.
  document.addEventListener(
    "invalid",
    (event) => event.target.closest("details")?.setAttribute("open", ""),
    true,
  );
  addEventListener("offline", () =>
    say("You are offline. Your pictures are here; drawing works again when you are back.", { kind: "note" }),
  );
}

/** Read what was kept. A browser that keeps nothing for this page still draws. */
async function loadKept() {
  try {
    await db.load();
  } catch (error) {
    console.warn(error);
    say(
      "The browser does not let this page keep pictures (a private window, perhaps). Download what you want to keep.",
    );
  }
  await Promise.allSettled([create.showEarlier(), canvas.openLast(), history.refresh()]);
}

startTheme();
fillActions();
takeFiles();
tellOfFullStorage();
listen();
create.start();
canvas.start();
history.start();
showView();
findModel();
await loadKept();
