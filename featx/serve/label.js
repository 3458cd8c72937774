"use strict";
// Labels images with the keyboard. Every address is relative: the page lies below a token.

const find = (id) => document.getElementById(id);
const RESERVED = "sunz"; // keys of the page itself
const KEYS = [..."123456789", ..."abcdefghijklmnopqrstuvwxyz".split("").filter((key) => !RESERVED.includes(key))];
const SMALL = 128; // pixels: smaller pictures are enlarged with sharp edges
const WATCH = 1500; // milliseconds between two looks at a round that runs

const tab = sessionStorage.getItem("tab") || crypto.randomUUID();
sessionStorage.setItem("tab", tab);

let standing = null;
let image = null; // as the server describes it
let chosen = new Set(); // labels, where an image can have several
let busy = false;
let changed = false; // filters, while the page was busy
let rounds = -1; // that were done when this page last looked

const percent = (share) => `${(100 * share).toFixed(0)} %`;
const joined = (labels) => (labels.length ? labels.join(", ") : "none of the classes");

// --- asking ---------------------------------------------------------------------------------------------------------

/** The JSON of an answer; what goes wrong is an Error with a sentence. */
async function ask(path, body) {
  const how = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, how);
  } catch {
    throw new Error("The server does not answer. Is featx label still running? No answer is lost.");
  }
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.detail || `The server answers ${response.status}.`);
  return found;
}

/** Do something that changes the page, once at a time; a fault is shown and nothing else changes. */
async function act(work) {
  if (busy) return;
  busy = true;
  find("work").setAttribute("aria-busy", "true");
  try {
    await work();
    find("trouble").hidden = true;
  } catch (error) {
    find("trouble").textContent = error.message;
    find("trouble").hidden = false;
  } finally {
    busy = false;
    find("work").setAttribute("aria-busy", "false");
  }
  if (changed) {
    changed = false;
    next();
  }
}

const share = (id) => Math.min(1, Math.max(0, (Number(find(id).value) || 0) / 100));
const wanted = () => ({
  show: find("show").value,
  label: find("of-class").value,
  least: share("least"),
  most: share("most"),
  doubt: share("doubt"),
  order: find("order").value,
});

const next = (but) => act(async () => take(await ask("next", { tab, wanted: wanted(), but: but ?? null })));

const answer = (labels) =>
  act(async () => {
    if (!image) return;
    const said = labels === null ? "Skipped" : joined(labels);
    const name = image.name;
    take(await ask("answer", { tab, number: image.number, labels, wanted: wanted() }));
    find("status").textContent = `${name}: ${said}. Saved.`;
  });

const undo = () =>
  act(async () => {
    take(await ask("undo", { tab }));
    find("status").textContent = `Taken back: ${image.name}.`;
  });

function accept() {
  if (!image) return;
  if (standing.several) answer([...chosen]);
  else if (image.suggestion) answer(image.suggestion);
  else if (image.given.length) answer(image.given);
}

function press(label) {
  if (!image) return;
  if (!standing.several) {
    answer([label]);
    return;
  }
  if (!chosen.delete(label)) chosen.add(label);
  drawClasses();
}

// --- showing --------------------------------------------------------------------------------------------------------

function take(found) {
  if ("image" in found) {
    image = found.image;
    chosen = new Set(image ? (image.now.length ? image.now : image.suggestion || []) : []);
    zoom(false);
  }
  standing = found.standing;
  drawStanding();
  drawRound(found.round);
  drawImage();
  drawClasses();
}

function drawStanding() {
  const done = standing.answered + standing.skipped;
  const parts = [`${standing.answered.toLocaleString("en")} labelled here`, `${standing.open.toLocaleString("en")} without a label`];
  if (standing.skipped) parts.push(`${standing.skipped.toLocaleString("en")} skipped`);
  if (standing.given) parts.push(`${standing.given.toLocaleString("en")} with a label of the data`);
  if (standing.judged) {
    const times = standing.judged === 1 ? "suggestion" : "suggestions";
    parts.push(`${standing.right} of ${standing.judged} ${times} right (${percent(standing.right / standing.judged)})`);
  }
  find("progress").textContent = parts.join(" · ");
  find("meter").max = Math.max(1, standing.images);
  find("meter").value = done;
  const list = find("of-class");
  const value = list.value;
  list.replaceChildren(new Option("any", ""), ...standing.classes.map((name) => new Option(name, name)));
  list.value = value;
  for (const one of document.querySelectorAll(".scored")) one.hidden = !standing.scored;
  find("seek").hidden = standing.classes.length <= KEYS.length;
}

function drawImage() {
  find("work").classList.toggle("done", !image);
  find("undo").disabled = standing.answered + standing.skipped === 0;
  if (!image) {
    const asked = find("show").selectedOptions[0].textContent;
    find("status").textContent = `No image ${asked} is left to show. Choose others under "Show …", or end featx label with Ctrl-C. The labels are in ${standing.csv}.`;
    return;
  }
  const picture = find("picture");
  picture.src = `image/${image.number}?size=page`;
  picture.alt = `Image to label: ${image.name}`;
  const words = [image.name];
  if (image.given.length) words.push(`in the data: ${joined(image.given)}`);
  if (image.how) words.push(image.how === "skipped" ? "skipped" : `labelled here: ${joined(image.now)}`);
  if (image.wrong !== null) words.push(`label error score ${image.wrong.toFixed(2)}`);
  find("caption").textContent = words.join(" · ");
  const suggested = find("suggested");
  suggested.replaceChildren();
  if (image.suggestion) {
    suggested.append(`${joined(image.suggestion)}${image.suggestion.length ? "?" : ""} `);
    const sure = document.createElement("small");
    sure.textContent = image.confidence === null ? "suggested" : percent(image.confidence);
    suggested.append(sure);
  } else suggested.textContent = image.given.length ? `${joined(image.given)}?` : "Which class?";
  find("reason").textContent = image.reason;
  find("reason").hidden = !image.reason;
  const right = standing.several || image.suggestion || image.given.length;
  find("accept").disabled = !right;
  const taken = image.suggestion || image.given;
  find("accept").lastElementChild.textContent = standing.several ? `Save: ${joined([...chosen])}` : taken.length ? `Is right: ${joined(taken)}` : "Is right";
  drawNear();
}

function drawNear() {
  find("near-heading").hidden = !image.near.length;
  find("near").replaceChildren(
    ...image.near.map((one) => {
      const item = document.createElement("li");
      const picture = document.createElement("img");
      picture.src = `image/${one.number}?size=small`;
      picture.alt = "";
      picture.loading = "lazy";
      const words = document.createElement("span");
      words.textContent = `${joined(one.labels)} ${one.similarity.toFixed(2)}`;
      item.append(picture, words);
      return item;
    }),
  );
}

/** The classes that are shown, each with its key: all, or those that hold what is sought. */
function shownClasses() {
  const sought = find("sought").value.trim().toLowerCase();
  const all = standing.classes.map((name, place) => [name, place]);
  if (!sought || find("seek").hidden) return all;
  const holds = all.filter(([name]) => name.toLowerCase().includes(sought));
  return [...holds.filter(([name]) => name.toLowerCase().startsWith(sought)), ...holds.filter(([name]) => !name.toLowerCase().startsWith(sought))];
}

function drawClasses() {
  if (!image) return;
  find("classes").replaceChildren(
    ...shownClasses().map(([name, place]) => {
      const button = document.createElement("button");
      button.type = "button";
      const key = KEYS[place];
      if (key) {
        const mark = document.createElement("kbd");
        mark.dataset.key = key; // shown by the style sheet: the name of the button is that of the class first
        mark.setAttribute("aria-hidden", "true");
        button.append(mark);
        button.setAttribute("aria-keyshortcuts", key);
      }
      button.append(name);
      const given = image.given.includes(name);
      button.classList.toggle("given", given);
      button.setAttribute("aria-label", [name, key ? `key ${key}` : "", given ? "in the data" : ""].filter(Boolean).join(", "));
      button.classList.toggle("suggested", Boolean(image.suggestion && image.suggestion.includes(name)));
      if (standing.several) button.setAttribute("aria-pressed", String(chosen.has(name)));
      button.addEventListener("click", () => press(name));
      return button;
    }),
  );
  if (standing.several) find("accept").lastElementChild.textContent = `Save: ${joined([...chosen])}`;
}

function zoom(on) {
  const button = find("zoom");
  const now = on ?? button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(now));
  if (now && image) find("picture").src = `image/${image.number}?size=whole`;
}

// --- another round --------------------------------------------------------------------------------------------------

function drawRound(round) {
  find("fit").hidden = !round.possible;
  find("fit").disabled = round.running;
  find("fitting").textContent = round.running ? `${round.said} …` : round.said;
  find("fitting").classList.toggle("error", round.failed);
  if (round.running) setTimeout(watch, WATCH);
  else if (rounds >= 0 && round.done > rounds && !round.failed) setTimeout(() => next(), 0);
  rounds = round.running ? Math.max(rounds, round.done) : round.done;
}

async function watch() {
  try {
    const found = await ask("state");
    standing = found.standing;
    drawStanding();
    drawRound(found.round);
  } catch (error) {
    find("trouble").textContent = error.message;
    find("trouble").hidden = false;
  }
}

// --- input ----------------------------------------------------------------------------------------------------------

function endSeeking() {
  find("sought").value = "";
  find("seek-help").hidden = true;
  find("sought").blur();
  drawClasses();
}

function openNaming(open) {
  find("naming").hidden = !open;
  if (open) find("name").focus();
  else find("name").value = "";
}

find("naming").addEventListener("submit", (event) => {
  event.preventDefault();
  act(async () => {
    const found = await ask("class", { tab, name: find("name").value });
    openNaming(false);
    take(found);
    find("status").textContent = `New class: ${found.added}.`;
  });
});
find("cancel").addEventListener("click", () => openNaming(false));
find("accept").addEventListener("click", accept);
find("skip").addEventListener("click", () => answer(null));
find("undo").addEventListener("click", undo);
find("new").addEventListener("click", () => openNaming(true));
find("zoom").addEventListener("click", () => zoom());
find("fit").addEventListener("click", () => act(async () => take(await ask("fit", {}))));
find("filters").addEventListener("change", () => {
  if (busy) changed = true;
  else next();
});
find("sought").addEventListener("input", () => {
  find("seek-help").hidden = !find("sought").value;
  drawClasses();
});
find("sought").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.repeat || event.isComposing) return;
  event.preventDefault();
  const [first] = find("sought").value.trim() ? shownClasses() : [];
  endSeeking();
  if (first) press(first[0]);
});
find("filters").addEventListener("submit", (event) => event.preventDefault());
find("picture").addEventListener("load", (event) => {
  event.target.classList.toggle("small", Math.max(event.target.naturalWidth, event.target.naturalHeight) < SMALL);
});
find("picture").addEventListener("error", () => {
  find("trouble").textContent = `${image ? image.name : "The image"} cannot be shown: it is damaged, or was moved. Press s to skip it.`;
  find("trouble").hidden = false;
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && event.detail > 0) button.blur(); // so that Enter goes on meaning "is right" after a click
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape") {
    openNaming(false);
    if (document.activeElement === find("sought")) endSeeking();
    zoom(false);
    return;
  }
  if (event.target.closest("input, select, textarea")) return;
  const key = event.key.toLowerCase();
  const label = standing && image ? standing.classes[KEYS.indexOf(key)] : undefined;
  if (key === "enter") {
    if (event.target.closest("button, summary, a")) return;
    if (!event.repeat) accept();
  } else if (event.repeat) return;
  else if (key === "s") answer(null);
  else if (key === "u") undo();
  else if (key === "n") openNaming(true);
  else if (key === "z") zoom();
  else if (key === "/" && !find("seek").hidden) find("sought").focus();
  else if (KEYS.includes(key) && label !== undefined) press(label);
  else return;
  event.preventDefault();
});

(async () => {
  try {
    const found = await ask("state");
    if (!found.standing.open && found.standing.given) find("show").value = "given";
  } catch {
    // the next request shows why
  }
  next();
})();
