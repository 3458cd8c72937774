"use strict";
(() => {
  const byId = (name) => document.getElementById(name);
  const data = JSON.parse(byId("data").textContent);
  const words = (text) => new Uint16Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const places = words(data.places);
  const n = places.length / 2;
  const order = Uint32Array.from({ length: n }, (_, row) => row); // of drawing: at random, or the last class would cover the others
  for (let row = n - 1, seed = 1; row > 0; row--) {
    seed = (seed * 48271) % 2147483647;
    const other = seed % (row + 1), kept = order[row];
    order[row] = order[other];
    order[other] = kept;
  }
  const colourings = data.colourings.map((one) => ({ ...one, values: words(one.values) }));
  const NONE = 65535;
  const canvas = byId("points"), tip = byId("tip"), said = byId("said"), legend = byId("legend");
  const pen = canvas.getContext("2d");
  // Okabe and Ito's colours, which differ in any colour vision; shapes differ as well
  const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b3a500", "#7f7f7f"];
  const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];
  const pictured = new Map(data.pictured.map((row, place) => [row, place]));
  const selected = new Uint8Array(n);
  let hidden = new Set();
  let by = colourings[0], view = { x: 0.5, y: 0.5, scale: 1 }, at = -1, loop = null, drag = null, waiting = false, marked = false;

  const ratio = () => window.devicePixelRatio || 1;
  let wide = 0, high = 0; // of the canvas, asked for once a frame: the browser may have to lay out the page for it
  const measure = () => { wide = canvas.clientWidth; high = canvas.clientHeight; };
  const size = () => Math.min(wide, high) * 0.94 * view.scale;
  const toX = (row) => (places[2 * row] / NONE - view.x) * size() + wide / 2;
  const toY = (row) => (view.y - places[2 * row + 1] / NONE) * size() + high / 2;
  const shown = (row) => !hidden.has(by.names === null ? -1 : by.values[row]);

  function ramp(share) { // from blue to yellow, by lightness as well
    const ends = [[0, 63, 120], [0, 130, 150], [120, 180, 90], [245, 205, 20]];
    const place = share * 3, low = Math.min(2, Math.floor(place)), part = place - low;
    return `rgb(${ends[low].map((from, k) => Math.round(from + (ends[low + 1][k] - from) * part)).join(" ")})`;
  }
  function shape(where, kind, r, c) {
    where.beginPath();
    if (kind === "circle") where.arc(c, c, r, 0, 7);
    else if (kind === "square") where.rect(c - r * 0.88, c - r * 0.88, r * 1.76, r * 1.76);
    else if (kind === "triangle") { where.moveTo(c, c - r * 1.15); where.lineTo(c + r * 1.1, c + r * 0.85); where.lineTo(c - r * 1.1, c + r * 0.85); }
    else if (kind === "diamond") { where.moveTo(c, c - r * 1.25); where.lineTo(c + r * 1.25, c); where.lineTo(c, c + r * 1.25); where.lineTo(c - r * 1.25, c); }
    else { const a = r * 0.45, b = r * 1.15; [[-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a], [a, b], [-a, b], [-a, a], [-b, a], [-b, -a], [-a, -a]].forEach(([x, y], k) => (k ? where.lineTo(c + x, c + y) : where.moveTo(c + x, c + y))); }
    where.closePath();
  }
  function stamp(colour, kind, r, scale) {
    const made = document.createElement("canvas"), edge = Math.ceil((2.6 * r + 2) * scale);
    made.width = made.height = edge;
    const where = made.getContext("2d");
    where.scale(scale, scale);
    shape(where, kind, r, edge / scale / 2);
    where.fillStyle = colour;
    where.fill();
    return made;
  }
  const look = (code) => code === NONE ? ["#9aa3ad", "circle"] : [COLOURS[code % 8], SHAPES[Math.floor(code / 8 + code) % 5]];
  let stamps = new Map();
  const keyOf = (value) => by.names === null && value !== NONE ? Math.round(value / 65534 * 31) : value;
  function stampOf(key, r) {
    let made = stamps.get(key);
    if (!made) {
      const [colour, kind] = by.names === null ? [key === NONE ? "#9aa3ad" : ramp(key / 31), "circle"] : look(key);
      made = stamp(colour, kind, r, ratio());
      stamps.set(key, made);
    }
    return made;
  }
  // Of many points the pixels are set one by one, in a picture with a margin: to draw each costs many times as much
  const MANY = 3000, MARGIN = 48;
  const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  let sheet = null, marks = new Map(), keys = new Uint16Array(n); // marks: by radius, then by key; kept while it is zoomed
  function markOf(key, r, across) {
    const made = stampOf(key, r), edge = made.width, half = Math.floor(edge / 2), at = [];
    if (scratch.canvas.width < edge) scratch.canvas.width = scratch.canvas.height = edge;
    scratch.clearRect(0, 0, edge, edge);
    scratch.drawImage(made, 0, 0);
    let full = 0;
    new Uint32Array(scratch.getImageData(0, 0, edge, edge).data.buffer).forEach((pixel, place) => {
      if (pixel >>> 24 < 128) return;
      at.push((Math.floor(place / edge) - half) * across + (place % edge) - half);
      if (pixel >>> 24 >= full >>> 24) full = pixel;
    });
    return { at: Int32Array.from(at), colour: full };
  }
  function drawMany(r, k) {
    const across = canvas.width + 2 * MARGIN, down = canvas.height + 2 * MARGIN;
    if (!sheet || sheet.width !== across || sheet.height !== down) { sheet = new ImageData(across, down); marks = new Map(); }
    if (!marks.has(r)) marks.set(r, []);
    const known = marks.get(r), unseen = new Uint8Array(NONE + 1);
    for (const value of hidden) unseen[keyOf(value)] = 1;
    const pixels = new Uint32Array(sheet.data.buffer);
    pixels.fill(0);
    const step = size() * k / NONE, left = (wide / 2 - view.x * size()) * k + MARGIN, top = (high / 2 + view.y * size()) * k + MARGIN;
    const least = MARGIN / 2, mostX = across - MARGIN / 2, mostY = down - MARGIN / 2;
    for (let place = 0; place < n; place++) {
      const row = order[place], x = left + places[2 * row] * step;
      if (x < least || x > mostX) continue;
      const y = top - places[2 * row + 1] * step, key = keys[row];
      if (y < least || y > mostY || unseen[key]) continue;
      const mark = known[key] || (known[key] = markOf(key, r, across)), base = (y | 0) * across + (x | 0), at = mark.at, colour = mark.colour;
      for (let j = 0; j < at.length; j++) pixels[base + at[j]] = colour;
    }
    pen.putImageData(sheet, -MARGIN, -MARGIN);
  }
  function drawFew(r, k) {
    for (const row of order) {
      const x = toX(row), y = toY(row);
      if (x < -9 || y < -9 || x > wide + 9 || y > high + 9 || !shown(row)) continue;
      const made = stampOf(keyOf(by.values[row]), r);
      pen.drawImage(made, x * k - made.width / 2, y * k - made.height / 2);
    }
  }
  let radius = 0;
  function draw() {
    waiting = false;
    measure();
    const k = ratio();
    if (canvas.width !== Math.round(wide * k) || canvas.height !== Math.round(high * k)) { canvas.width = Math.round(wide * k); canvas.height = Math.round(high * k); stamps = new Map(); marks = new Map(); }
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const r = Math.round(10 * Math.max(1.5, Math.min(6, (n > 20000 ? 1.6 : n > 3000 ? 2.4 : 4) * Math.sqrt(view.scale)))) / 10;
    if (r !== radius) { radius = r; stamps = new Map(); }
    if (n > MANY) drawMany(r, k);
    else drawFew(r, k);
    pen.setTransform(k, 0, 0, k, 0, 0);
    const ink = getComputedStyle(document.body).color;
    pen.strokeStyle = ink;
    pen.lineWidth = 1.5;
    if (marked) {
      pen.beginPath();
      for (let row = 0; row < n; row++) if (selected[row] && shown(row)) { const x = toX(row), y = toY(row); pen.moveTo(x + r + 2, y); pen.arc(x, y, r + 2, 0, 7); }
      pen.stroke();
    }
    if (at >= 0) { pen.lineWidth = 3; pen.beginPath(); pen.arc(toX(at), toY(at), r + 5, 0, 7); pen.stroke(); }
    if (loop) { pen.lineWidth = 2; pen.setLineDash([6, 4]); pen.beginPath(); loop.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y))); pen.stroke(); pen.setLineDash([]); }
  }
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };

  const name = (one, row) => {
    const value = one.values[row];
    return value === NONE ? "none" : one.names === null ? (value / 65534).toFixed(2) : one.names[value];
  };
  const describe = (row) => [data.paths[row].split("/").pop(), ...colourings.map((one) => `${one.title}: ${name(one, row)}`)];
  function show(row) {
    if (row === at) return;
    at = row;
    tip.hidden = row < 0;
    if (row >= 0) {
      tip.replaceChildren();
      if (pictured.has(row)) {
        const place = pictured.get(row), inside = place % (data.row * data.row), picture = document.createElement("div");
        picture.className = "thumb";
        picture.style.backgroundImage = `url("${data.sheets[Math.floor(place / (data.row * data.row))]}")`;
        picture.style.backgroundSize = `${96 * data.row}px auto`;
        picture.style.backgroundPosition = `-${96 * (inside % data.row)}px -${96 * Math.floor(inside / data.row)}px`;
        tip.append(picture);
      }
      for (const line of describe(row)) { const part = document.createElement("div"); part.textContent = line; tip.append(part); }
      const x = toX(row), y = toY(row), left = x > wide / 2 ? x - tip.offsetWidth - 14 : x + 14;
      tip.style.left = `${Math.max(4, Math.min(left, wide - tip.offsetWidth - 4))}px`;
      tip.style.top = `${Math.max(4, Math.min(y + 10, high - tip.offsetHeight - 4))}px`;
    }
    redraw();
  }
  function nearest(x, y, most) {
    let found = -1, best = most * most;
    for (let row = 0; row < n; row++) {
      const dx = toX(row) - x, dy = toY(row) - y, far = dx * dx + dy * dy;
      if (far < best && shown(row)) { best = far; found = row; }
    }
    return found;
  }
  function zoom(factor, x, y) {
    const before = size(), scale = Math.max(0.5, Math.min(400, view.scale * factor));
    const dx = (x - wide / 2), dy = (y - high / 2);
    view.scale = scale;
    view.x += dx / before - dx / size();
    view.y -= dy / before - dy / size();
    show(-1);
    redraw();
  }
  const centre = () => [wide / 2, high / 2];
  function count() {
    let chosen = 0;
    for (let row = 0; row < n; row++) chosen += selected[row];
    marked = chosen > 0;
    byId("save").disabled = byId("none").disabled = chosen === 0;
    said.textContent = chosen ? `${chosen.toLocaleString("en")} of ${n.toLocaleString("en")} images selected.` : "";
    redraw();
  }
  function inside(x, y, points) {
    let odd = false;
    for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
      const [ax, ay] = points[i], [bx, by_] = points[j];
      if (ay > y !== by_ > y && x < ((bx - ax) * (y - ay)) / (by_ - ay) + ax) odd = !odd;
    }
    return odd;
  }
  const here = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const touches = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    const [x, y] = here(event);
    touches.set(event.pointerId, [x, y]);
    if (event.shiftKey || byId("lasso").getAttribute("aria-pressed") === "true") loop = [[x, y]];
    else drag = [x, y];
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = here(event);
    if (touches.size === 2 && touches.has(event.pointerId)) {
      const [a, b] = [...touches.values()], apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
      touches.set(event.pointerId, [x, y]);
      const [c, d] = [...touches.values()];
      loop = null;
      zoom(Math.hypot(c[0] - d[0], c[1] - d[1]) / Math.max(1, apart), (c[0] + d[0]) / 2, (c[1] + d[1]) / 2);
    } else if (loop) { loop.push([x, y]); redraw(); }
    else if (drag) { view.x -= (x - drag[0]) / size(); view.y += (y - drag[1]) / size(); drag = [x, y]; show(-1); redraw(); }
    else show(nearest(x, y, 14));
  });
  const end = (event) => {
    touches.delete(event.pointerId);
    if (loop && loop.length > 2) {
      for (let row = 0; row < n; row++) if (shown(row) && inside(toX(row), toY(row), loop)) selected[row] = 1;
      count();
    }
    const [x, y] = here(event);
    if (drag && event.pointerType === "touch") show(nearest(x, y, 22));
    loop = drag = null;
    redraw();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", (event) => { touches.delete(event.pointerId); loop = drag = null; redraw(); });
  canvas.addEventListener("pointerleave", () => { if (!drag && !loop) show(-1); });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), ...here(event)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 60 / size();
    const keys = {
      ArrowLeft: () => { view.x -= step; }, ArrowRight: () => { view.x += step; },
      ArrowUp: () => { view.y += step; }, ArrowDown: () => { view.y -= step; },
      "+": () => zoom(1.4, ...centre()), "=": () => zoom(1.4, ...centre()), "-": () => zoom(1 / 1.4, ...centre()),
      0: () => { view = { x: 0.5, y: 0.5, scale: 1 }; },
      n: () => walk(1), p: () => walk(-1),
      " ": () => { if (at >= 0) { selected[at] ^= 1; count(); } },
      Escape: () => { selected.fill(0); show(-1); count(); },
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
    redraw();
  });
  function walk(step) {
    for (let k = 1; k <= n; k++) {
      const row = ((at < 0 && step < 0 ? 0 : at) + step * k + n * 2) % n, x = toX(row), y = toY(row);
      if (shown(row) && x >= 0 && y >= 0 && x <= wide && y <= high) {
        show(row);
        said.textContent = describe(row).join(", ");
        return;
      }
    }
  }
  const quoted = (text) => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  byId("save").addEventListener("click", () => {
    const lines = ["path,label"], labels = data.label < 0 ? null : colourings[data.label];
    for (let row = 0; row < n; row++) if (selected[row]) lines.push(`${quoted(data.paths[row])},${labels && labels.values[row] !== NONE ? quoted(labels.names[labels.values[row]]) : ""}`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = "selection.csv";
    link.click();
  });
  byId("none").addEventListener("click", () => { selected.fill(0); count(); });
  byId("lasso").addEventListener("click", (event) => event.target.setAttribute("aria-pressed", String(event.target.getAttribute("aria-pressed") !== "true")));
  byId("in").addEventListener("click", () => zoom(1.4, ...centre()));
  byId("out").addEventListener("click", () => zoom(1 / 1.4, ...centre()));
  byId("all").addEventListener("click", () => { view = { x: 0.5, y: 0.5, scale: 1 }; redraw(); });
  function paint() {
    hidden = new Set();
    stamps = new Map();
    marks = new Map();
    keys = by.values.map(keyOf);
    legend.replaceChildren();
    if (by.names === null) {
      const item = document.createElement("li"), bar = document.createElement("span");
      item.className = "scale";
      bar.className = "ramp";
      bar.style.background = `linear-gradient(90deg, ${[0, 1, 2, 3].map((k) => ramp(k / 3)).join(", ")})`;
      item.append("0", bar, "1");
      legend.append(item);
    } else {
      const counts = new Map();
      for (const value of by.values) counts.set(value, (counts.get(value) || 0) + 1);
      for (const [value, many] of [...counts].sort((a, b) => a[0] - b[0])) {
        const item = document.createElement("li"), button = document.createElement("button"), [colour, kind] = look(value);
        button.type = "button";
        button.setAttribute("aria-pressed", "true");
        const mark = stamp(colour, kind, 6, ratio());
        mark.style.width = mark.style.height = `${mark.width / ratio()}px`;
        button.append(mark, `${value === NONE ? "none" : by.names[value]} (${many.toLocaleString("en")})`);
        button.addEventListener("click", () => {
          hidden.has(value) ? hidden.delete(value) : hidden.add(value);
          button.setAttribute("aria-pressed", String(!hidden.has(value)));
          show(-1);
          redraw();
        });
        item.append(button);
        legend.append(item);
      }
    }
    redraw();
  }
  colourings.forEach((one, place) => { const option = document.createElement("option"); option.value = place; option.textContent = one.title; byId("by").append(option); });
  byId("by").addEventListener("change", (event) => { by = colourings[event.target.value]; paint(); });
  addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  measure();
  paint();
})();
