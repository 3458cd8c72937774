"use strict";
// Shows images to the model. Every address is relative, so that the page also works below a path of another server.

const AT_ONCE = 4; // requests
const TRIES = 6; // when the server is busy
const MAPS_BY_THEMSELVES = 4; // so many images added together get their maps without being asked
const LASTING = [400, 413, 415, 422]; // what is refused with these is refused again
const DOUBTFUL = 0.5; // confidence, which is a probability: below, an answer is more likely wrong than right
const SMALL = 128; // pixels: smaller pictures are enlarged with sharp edges

const find = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** A confidence as the images that it was calibrated on can show it (featx.metrics.digits.confidence_text). */
function sureness(share) {
  const images = model ? model.calibrated_on : null;
  if (images === null || images === undefined) return percent(share);
  if (images === 0) return `${Math.round(100 * share)} %, unmeasured`;
  const digits = images < 200 ? 0 : 1;
  const scale = 10 ** (digits + 2);
  const least = 1 / (images + 2);
  const written = (value) => `${(100 * value).toFixed(digits)} %`;
  if (share > 1 - least) return `over ${written(Math.floor((1 - least) * scale + 1e-9) / scale)}`;
  if (share < least) return `under ${written(Math.ceil(least * scale - 1e-9) / scale)}`;
  return written(share);
}
const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

let model = null;
const waiting = [];
let running = 0;

// --- asking ---------------------------------------------------------------------------------------------------------

/** The JSON of an answer; what goes wrong is an Error with a sentence. */
async function ask(path, file) {
  const form = new FormData();
  form.append("images", file, file.name || "pasted image");
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await fetch(path, { method: "POST", body: form });
    } catch {
      throw new Error(await whyUnsent(file));
    }
    const body = await response.json().catch(() => ({}));
    if (response.ok) return body;
    if (response.status !== 429 || attempt === TRIES) {
      const error = new Error(body.detail || `The server answers ${response.status}.`);
      error.lasting = LASTING.includes(response.status);
      throw error;
    }
    await wait(Number(response.headers.get("Retry-After")) || 1);
  }
}

/** Why no answer came: the file cannot be read here, or the server cannot be reached. */
async function whyUnsent(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    const error = "The browser cannot read this file: it is a folder, or was changed, moved or deleted since it was chosen.";
    return `${error} Choose it again.`;
  }
  return "The server does not answer. Is featx serve still running?";
}

/** Begin what waits, a few at a time. */
function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    waiting.shift()().finally(() => {
      running -= 1;
      next();
    });
  }
}

// --- one image ------------------------------------------------------------------------------------------------------

function addImage(file, mapped) {
  const card = find("answer").content.firstElementChild.cloneNode(true);
  const image = card.querySelector("img");
  const name = file.name || "pasted image";
  card.querySelector("h2").textContent = name;
  card.url = URL.createObjectURL(file);
  image.alt = name;
  image.addEventListener("load", () => {
    image.classList.toggle("small", image.src === card.url && Math.max(image.naturalWidth, image.naturalHeight) < SMALL);
  });
  image.addEventListener("error", () => {
    card.classList.add("bare"); // such as a TIFF file, which browsers do not show
  });
  image.src = card.url;
  card.querySelector(".again").addEventListener("click", () => {
    waiting.push(() => predict(card, file, mapped));
    next();
  });
  find("results").prepend(card);
  waiting.push(() => predict(card, file, mapped));
}

async function predict(card, file, mapped) {
  card.setAttribute("aria-busy", "true");
  show(card, ".error", "");
  card.querySelector(".again").hidden = true;
  card.querySelector(".label").hidden = false;
  try {
    if (model && file.size > model.limits.upload) {
      throw new Error(`The file is larger than ${model.limits.upload / 1e6} MB, the server's limit.`);
    }
    const answer = (await ask("predict", file)).predictions[0];
    showAnswer(card, answer);
    if (model.maps) offerMaps(card, file, answer);
    if (model.maps && mapped) waiting.push(() => showMaps(card, file, answer));
    const doubts = isDoubtful(answer) ? ", low confidence" : "";
    announce(`${answer.path}: ${said(answer)}, ${sureness(answer.confidence)}${doubts}`);
  } catch (error) {
    fail(card, error);
    announce(`${file.name || "pasted image"}: ${error.message}`);
  }
  card.setAttribute("aria-busy", "false");
}

function fail(card, error) {
  card.querySelector(".label").hidden = true;
  show(card, ".error", error.message);
  card.querySelector(".again").hidden = Boolean(error.lasting);
}

function show(card, selector, text) {
  const element = card.querySelector(selector);
  element.textContent = text;
  element.hidden = !text;
}

/** The answer in words; of several labels all that are given. */
function said(answer) {
  if (answer.labels && !answer.unknown) return answer.labels.join(", ") || "no label";
  return answer.label;
}

/** Whether an answer is more likely wrong than right, or was held back: it is marked, whatever it is. */
function isDoubtful(answer) {
  if (answer.unknown) return true;
  if (answer.labels) return answer.labels.length === 0;
  return answer.confidence < DOUBTFUL || answer.confidence < model.min_confidence;
}

function showAnswer(card, answer) {
  card.classList.toggle("doubtful", isDoubtful(answer));
  const label = card.querySelector(".label");
  label.hidden = false;
  label.textContent = said(answer);
  const best = answer.top[0];
  if (answer.label === best.label && !answer.labels) {
    const small = document.createElement("small");
    small.textContent = ` ${sureness(answer.confidence)}`;
    label.append(small);
  }
  if (isDoubtful(answer)) {
    const mark = document.createElement("span");
    mark.className = "mark";
    mark.textContent = answer.unknown ? "⚠ unlike all training images" : "⚠ low confidence";
    label.append(mark);
  }
  show(card, ".note", doubt(answer, best));
  show(card, ".set", setOf(answer));
  const bars = card.querySelector(".bars");
  bars.replaceChildren(...answer.top.map((choice) => bar(choice, answer)));
  bars.hidden = false;
}

/** The set of classes that holds the truth in the share of images that was asked for; "" where none was. */
function setOf(answer) {
  if (!answer.set) return "";
  const { coverage, per_class: each, approximate } = model.coverage;
  const whose = each ? (model.multilabel ? " of each label" : " of each class") : "";
  const what = answer.set.join(", ") || "no class, none is likely enough";
  return `Set for ${Number((100 * coverage).toFixed(2))} % of images${whose}${approximate ? ", approximately" : ""}: ${what}`;
}

function doubt(answer, best) {
  const likeliest = `The likeliest class is ${best.label} with ${sureness(best.confidence)}`;
  if (answer.unknown) {
    return `${likeliest}, but no training image is near: the distance is ${answer.distance.toFixed(2)}, the limit ${model.max_distance}.`;
  }
  if (answer.label !== best.label) return `${likeliest}, less than the required ${percent(model.min_confidence)}.`;
  if (isDoubtful(answer) && !answer.labels) return "Answers this unsure are wrong more often than right. Look at the classes below.";
  return "";
}

function bar(choice, answer) {
  const line = document.createElement("li");
  const part = (kind, parent, text = "") => {
    const element = document.createElement(kind === "bar" ? "div" : "span");
    element.className = kind;
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const given = answer.labels?.includes(choice.label);
  part("name", line, given ? `✓ ${choice.label}` : choice.label).classList.toggle("given", Boolean(given));
  part("share", line, sureness(choice.confidence));
  const whole = part("bar", line);
  whole.setAttribute("aria-hidden", "true");
  part("filled", whole).style.width = percent(choice.confidence).replace(" ", "");
  const least = choice === answer.top[0] ? model.min_confidence : 0; // which is asked of the likeliest class alone
  const limit = model.thresholds ? model.thresholds[model.classes.indexOf(choice.label)] : least;
  if (limit > 0) {
    const mark = document.createElement("i");
    mark.style.left = `${100 * limit}%`;
    whole.append(mark);
    whole.title = `asked for: ${percent(limit)}`;
  }
  return line;
}

// --- where the model looked -----------------------------------------------------------------------------------------

function offerMaps(card, file, answer) {
  const look = card.querySelector(".look");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Where did it look?";
  button.addEventListener("click", () => {
    waiting.push(() => showMaps(card, file, answer));
    next();
  });
  look.replaceChildren(button);
  look.hidden = false;
}

async function showMaps(card, file, answer) {
  const look = card.querySelector(".look");
  const button = look.firstElementChild;
  if (card.looking || !card.isConnected) return;
  card.looking = true;
  button.setAttribute("aria-disabled", "true");
  button.textContent = "Looking …";
  show(card, ".error", "");
  try {
    const found = await ask("explain", file);
    const image = card.querySelector("img");
    const views = [{ name: "The image", source: card.url, note: "" }];
    for (const one of found.classes) {
      const note = `Where the model sees ${one.label} (${sureness(one.confidence)}): brighter areas count more towards it.`;
      views.push({ name: one.label, source: one.overlay, note });
    }
    const choose = (chosen) => {
      card.classList.remove("bare");
      image.src = views[chosen].source;
      image.alt = chosen ? `${answer.path}. ${views[chosen].note}` : answer.path;
      card.querySelector("figcaption").textContent = views[chosen].note;
      [...look.children].forEach((other, place) => other.setAttribute("aria-pressed", String(place === chosen)));
    };
    const focused = document.activeElement === button;
    look.replaceChildren(
      ...views.map((view, place) => {
        const choice = document.createElement("button");
        choice.type = "button";
        choice.textContent = view.name;
        choice.addEventListener("click", () => choose(place));
        return choice;
      }),
    );
    choose(1);
    if (focused) look.children[1].focus();
  } catch (error) {
    show(card, ".error", error.message);
    button.removeAttribute("aria-disabled");
    button.textContent = "Where did it look?";
  }
  card.looking = false;
}

// --- the page -------------------------------------------------------------------------------------------------------

function announce(text) {
  find("status").textContent = text;
}

function take(files) {
  const chosen = [...files];
  if (!chosen.length) return;
  if (!model) {
    announce("The model cannot be reached yet. Reload the page.");
    return;
  }
  announce(chosen.length === 1 ? "Asking …" : `Asking about ${chosen.length} images …`);
  for (const file of chosen) addImage(file, chosen.length <= MAPS_BY_THEMSELVES);
  find("clear").hidden = false;
  next();
}

function clear() {
  waiting.length = 0;
  for (const card of find("results").children) URL.revokeObjectURL(card.url);
  find("results").replaceChildren();
  find("clear").hidden = true;
  announce("");
  find("files").focus();
}

function describe() {
  document.title = `${model.name} · featx`;
  find("name").textContent = model.name;
  const count = model.classes.length;
  const parts = [
    `${count} ${count === 1 ? "class" : "classes"}${model.multilabel ? ", several per image" : ""}`,
    `${model.head} on ${model.backbone || "a network"}`,
    model.measured,
  ];
  find("about").textContent = parts.join(" · ");
  find("limits").textContent = `Up to ${model.limits.upload / 1e6} MB and ${model.limits.megapixels} megapixels each. They do not leave this server and are not kept.`;
  find("tab-report").hidden = !model.report;
}

function openTab(tab) {
  for (const other of document.querySelectorAll("[role=tab]")) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    find(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  const report = find("report");
  if (tab.id === "tab-report" && !report.querySelector("iframe")) {
    const frame = document.createElement("iframe");
    frame.src = "report";
    frame.title = "The report";
    report.append(frame);
  }
  tab.focus();
}

function listen() {
  const files = find("files");
  files.addEventListener("change", () => {
    take(files.files);
    files.value = ""; // the same file may be chosen again
  });
  find("clear").addEventListener("click", clear);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  const tabs = [...document.querySelectorAll("[role=tab]")];
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => openTab(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const shown = tabs.filter((one) => !one.hidden);
      openTab(shown[(shown.indexOf(tab) + step + shown.length) % shown.length]);
    });
  });
}

async function start() {
  listen();
  try {
    const response = await fetch("model");
    const body = await response.json();
    if (!response.ok) throw new Error(body.detail);
    model = body;
    describe();
  } catch (error) {
    announce(`The model cannot be reached: ${error.message}. Reload the page.`);
  }
}

start();
