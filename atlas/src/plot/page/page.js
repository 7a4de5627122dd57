// What the page does: reads the data block, builds panels and legend, and answers the pointer. Texts reach the page only
// as text nodes.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const make = (tag, props = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
};
const counted = (n) => n.toLocaleString("en");
const hex = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

const n = data.rows;
const names = data.labels?.kind === "names" ? data.labels : null;
const numbers = data.labels?.kind === "numbers" ? data.labels : null;
const codes = names && new Uint16Array(bytes(names.codes).buffer);
const values = numbers && new Float32Array(bytes(numbers.values).buffer);
const panels = data.panels.map((panel) => {
  const xy = new Float32Array(bytes(panel.xy).buffer);
  return { ...panel, xy, grid: makeGrid(xy), view: { x: 0, y: 0, scale: 1 }, home: true };
});
const order = Uint32Array.from({ length: n }, (_, row) => row);
for (let i = n - 1, seed = 42; i > 0; i--) {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  const j = seed % (i + 1);
  [order[i], order[j]] = [order[j], order[i]];
}
const painter = makePainter(panels, order, data.outlines);
const hidden = new Set();
const states = new Uint8Array(n).fill(SHOWN);
let size = 1, query = "", hovered = -1, pinned = false, showNames = true;
let dark = matchMedia("(prefers-color-scheme: dark)").matches;

// ---- colours

function lookOf(code) {
  const style = names.styles[code];
  return [...hex(data.palette[style[0]][dark ? 1 : 0]), style[1]];
}

const ramp = () => data.ramp[dark ? 1 : 0];
const missing = () => hex(data.missing[dark ? 1 : 0]);

function rampColour(value) {
  if (Number.isNaN(value)) return missing();
  const span = numbers.high - numbers.low || 1;
  const place = Math.max(0, Math.min(1, (value - numbers.low) / span)) * (ramp().length - 1);
  const low = Math.min(Math.floor(place), ramp().length - 2);
  return ramp()[low].map((channel, i) => Math.round(channel + (ramp()[low + 1][i] - channel) * (place - low)));
}

function applyTheme() {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const looks = new Uint8Array(4 * n);
  const styles = names?.names.map((_, code) => lookOf(code));
  const plain = [...hex(data.palette[0][dark ? 1 : 0]), 0];
  for (let row = 0; row < n; row++) {
    looks.set(names ? styles[codes[row]] : numbers ? [...rampColour(values[row]), 0] : plain, 4 * row);
  }
  painter.setLooks(looks, hex(data.faint[dark ? 1 : 0]));
  document.querySelectorAll("#legend path").forEach((path, code) => path.setAttribute("fill", `rgb(${lookOf(code).slice(0, 3)})`));
  if (numbers) {
    byId("bar").style.background = `linear-gradient(to top, ${ramp().map((colour) => `rgb(${colour})`)})`;
    for (const spot of document.querySelectorAll(".missing")) spot.style.background = `rgb(${missing()})`;
  }
  redraw();
}

// ---- names with emojis as pictures

const pictures = new Map();
function picture(key) {
  if (!pictures.has(key)) {
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 36" width="72" height="72">${data.drawings[key]}</svg>`;
    const image = new Image();
    image.onload = redraw;
    image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    pictures.set(key, image);
  }
  return pictures.get(key);
}
const spelled = (pieces) => pieces.map((piece) => piece.text ??
  make("img", { className: "emoji", alt: piece.emoji, src: picture(piece.emoji).src }));

const shortened = (piece) => (piece.text?.length > 22 ? { text: `${[...piece.text].slice(0, 20).join("")}…` } : piece);

// ---- legend

function buildLegend() {
  const legend = byId("legend");
  if (names) {
    legend.append(make("h2", { textContent: names.column }));
    names.names.forEach((name, code) => {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "-16 -16 32 32");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", data.outlines[names.styles[code][1]]);
      svg.append(path);
      const button = make("button", { type: "button", title: `${name}\nAlt- or Shift-click shows this label alone` },
        svg, make("span", {}, ...spelled(names.pieces[code])), make("small", { textContent: counted(names.counts[code]) }));
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", (event) => toggle(code, event.altKey || event.shiftKey));
      legend.append(button);
    });
  } else if (numbers) {
    const ticks = make("ol", {}, ...numbers.ticks.map(([share, tick]) => {
      const item = make("li", { textContent: tick });
      item.style.bottom = `${100 * share}%`;
      return item;
    }));
    legend.append(make("h2", { textContent: numbers.column }), make("div", { id: "bar-row" }, make("div", { id: "bar" }), ticks));
    for (const other of numbers.others) legend.append(make("p", {}, make("span", { className: "missing" }), other));
  }
}

function toggle(code, alone) {
  const all = names.names.map((_, other) => other);
  if (alone) {
    const isAlone = hidden.size === all.length - 1 && !hidden.has(code);
    hidden.clear();
    if (!isAlone) all.filter((other) => other !== code).forEach((other) => hidden.add(other));
  } else if (!hidden.delete(code)) {
    hidden.add(code);
  }
  applyStates();
}

// ---- what is shown

function applyStates() {
  const wanted = query.toLowerCase();
  const texts = data.hover[0]?.values ?? [];
  let shown = 0, found = 0;
  for (let row = 0; row < n; row++) {
    if (codes && hidden.has(codes[row])) { states[row] = HIDDEN; continue; }
    shown++;
    const hit = wanted !== "" && (texts[row] ?? "").toLowerCase().includes(wanted);
    if (hit) found++;
    states[row] = wanted === "" ? SHOWN : hit ? FOUND : DIM;
  }
  painter.setStates(states);
  document.querySelectorAll("#legend button").forEach((button, code) => button.setAttribute("aria-pressed", String(!hidden.has(code))));
  const points = shown === n ? `${counted(n)} points` : `${counted(shown)} of ${counted(n)} points`;
  byId("status").textContent = wanted === "" ? points : `${counted(found)} of ${points} match`;
  hover(-1);
  redraw();
}

// ---- panels

function buildPanels() {
  const grid = byId("panels");
  const columns = Math.ceil(Math.sqrt(panels.length));
  grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  panels.forEach((panel, index) => {
    panel.canvas = make("canvas");
    panel.overlay = make("canvas", { tabIndex: 0 });
    panel.overlay.setAttribute("aria-label", `Scatter plot ${panel.title}`);
    panel.plot = make("div", { className: "plot" }, panel.canvas, panel.overlay);
    const box = make("div", { className: "panel" });
    if (panel.title) box.append(make("h2", { textContent: panel.title }));
    if (panel.note) box.append(make("p", { textContent: panel.note }));
    box.append(panel.plot);
    grid.append(box);
    listen(panel, index);
    new ResizeObserver(() => resize(panel)).observe(panel.plot);
  });
}

function resize(panel) {
  const ratio = devicePixelRatio || 1;
  const width = Math.max(1, Math.round(panel.plot.clientWidth * ratio));
  const height = Math.max(1, Math.round(panel.plot.clientHeight * ratio));
  for (const canvas of [panel.canvas, panel.overlay]) Object.assign(canvas, { width, height });
  if (panel.home) goHome(panel);
  redraw();
}

function goHome(panel) {
  const { left, right, low, high } = panel.start;
  const { width, height } = panel.canvas;
  const fits = Math.min((width * 0.94) / (right - left), (height * 0.94) / (high - low));
  panel.view = { x: (left + right) / 2, y: (low + high) / 2, scale: Number.isFinite(fits) && fits > 0 ? fits : 1 };
  panel.home = true;
}

function radiusOf(panel) {
  const { width, height } = panel.canvas;
  const ratio = devicePixelRatio || 1;
  const covering = (share, count) => Math.sqrt((width * height * share) / (Math.PI * Math.max(1, count)));
  const home = Math.max(covering(0.05, n), Math.min(3 * ratio, covering(0.03, panel.crowds)));
  const { left, right } = panel.start;
  const zoom = Math.max(1, (panel.view.scale * (right - left || 1)) / width);
  return Math.max(1.1 * ratio, Math.min(6 * ratio, home * Math.sqrt(zoom))) * size;
}

// While the view moves, a machine that cannot keep up draws fewer points; once it rests, all of them.
const LEAST = 20000, SLOW_MS = 45, REST_MS = 160;
let waiting = false, budget = n, lastFrame = 0, rest = 0;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; paint(n); });
}

function redrawMoving() {
  clearTimeout(rest);
  rest = setTimeout(() => { lastFrame = 0; redraw(); }, REST_MS);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame((now) => {
    waiting = false;
    if (lastFrame && now - lastFrame > SLOW_MS) budget = Math.max(LEAST, budget / 2);
    lastFrame = now;
    paint(budget);
  });
}

function paint(most) {
  panels.forEach((panel, index) => {
    if (panel.canvas?.width > 1) {
      painter.paint(panel.canvas, index, panel.view, radiusOf(panel), n > 20000 ? 0.6 : 0.8, most);
      drawOverlay(panel);
    }
  });
  document.documentElement.dataset.drawn = painter.kind;
}

const toScreen = (panel, x, y) => [(x - panel.view.x) * panel.view.scale + panel.canvas.width / 2,
  panel.canvas.height / 2 - (y - panel.view.y) * panel.view.scale];
const toData = (panel, x, y) => [(x - panel.canvas.width / 2) / panel.view.scale + panel.view.x,
  (panel.canvas.height / 2 - y) / panel.view.scale + panel.view.y];

function drawOverlay(panel) {
  const ratio = devicePixelRatio || 1;
  const context = panel.overlay.getContext("2d");
  context.clearRect(0, 0, panel.overlay.width, panel.overlay.height);
  const ink = dark ? "#ffffff" : "#000000", rim = dark ? "#14161a" : "#ffffff";
  if (showNames && panel.spots) drawNames(panel, context, ratio, ink, rim);
  if (hovered >= 0) {
    const [x, y] = toScreen(panel, panel.xy[2 * hovered], panel.xy[2 * hovered + 1]);
    for (const [colour, width] of [[rim, 5], [ink, 2]]) {
      context.beginPath();
      context.arc(x, y, radiusOf(panel) * 1.5 + 3 * ratio, 0, 7);
      Object.assign(context, { strokeStyle: colour, lineWidth: width * ratio });
      context.stroke();
    }
  }
}

function drawNames(panel, context, ratio, ink, rim) {
  const taken = [];
  Object.assign(context, { textBaseline: "middle", lineJoin: "round", strokeStyle: rim, fillStyle: ink });
  panel.spots.forEach((spot, code) => {
    if (!spot || hidden.has(code)) return;
    const pieces = names.pieces[code].map(shortened), alone = pieces.length === 1 && pieces[0].emoji;
    const height = (alone ? 24 : 14) * ratio;
    context.font = `600 ${height}px system-ui, "DejaVu Sans", sans-serif`;
    const widths = pieces.map((piece) => (piece.emoji ? height * 1.15 : context.measureText(piece.text).width));
    const width = widths.reduce((a, b) => a + b, 0);
    const [x, y] = toScreen(panel, ...spot);
    const box = [x - width / 2, y - height * 0.65, x + width / 2, y + height * 0.65];
    if (width > 260 * ratio || taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) return;
    taken.push(box);
    let at = box[0];
    pieces.forEach((piece, i) => {
      if (piece.emoji) {
        context.globalAlpha = 0.85;
        context.fillStyle = rim;
        context.beginPath();
        context.arc(at + widths[i] / 2, y, height * 0.68, 0, 7);
        context.fill();
        Object.assign(context, { globalAlpha: 1, fillStyle: ink });
        const image = picture(piece.emoji);
        if (image.complete && image.naturalWidth) context.drawImage(image, at + height * 0.075, y - height / 2, height, height);
      } else {
        context.lineWidth = 4 * ratio;
        context.strokeText(piece.text, at, y);
        context.fillText(piece.text, at, y);
      }
      at += widths[i];
    });
  });
}

// ---- the pointer

function listen(panel, index) {
  const target = panel.overlay, pointers = new Map();
  let moved = 0;
  const local = (event) => {
    const box = target.getBoundingClientRect(), ratio = target.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  };
  const zoom = (x, y, factor) => {
    const [dataX, dataY] = toData(panel, x, y);
    panel.view.scale = Math.max(1e-9, Math.min(1e12, panel.view.scale * factor));
    const [newX, newY] = toData(panel, x, y);
    pan(dataX - newX, dataY - newY);
  };
  const pan = (dx, dy) => { panel.view.x += dx; panel.view.y += dy; panel.home = false; redrawMoving(); };
  target.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(...local(event), Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0016)));
  }, { passive: false });
  target.addEventListener("pointerdown", (event) => {
    target.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, local(event));
    moved = 0;
  });
  target.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId), now = local(event);
    if (!before) return pinned || pick(panel, event, now);
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    if (others.length === 1) {
      const apart = (at) => Math.hypot(at[0] - others[0][0], at[1] - others[0][1]);
      zoom((now[0] + others[0][0]) / 2, (now[1] + others[0][1]) / 2, apart(now) / Math.max(1, apart(before)));
    } else if (others.length === 0) {
      moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
      pan((before[0] - now[0]) / panel.view.scale, (now[1] - before[1]) / panel.view.scale);
    }
    pointers.set(event.pointerId, now);
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId) || event.type === "pointercancel" || moved > 6) return;
    pinned = false;
    pick(panel, event, local(event));
    pinned = hovered >= 0;
    byId("card").classList.toggle("pinned", pinned);
  };
  target.addEventListener("pointerup", release);
  target.addEventListener("pointercancel", release);
  target.addEventListener("pointerleave", () => pinned || hover(-1));
  target.addEventListener("dblclick", () => { unpin(); goHome(panel); redraw(); });
  target.addEventListener("keydown", (event) => {
    const step = 60 / panel.view.scale, middle = [panel.canvas.width / 2, panel.canvas.height / 2];
    const keys = {
      ArrowLeft: () => pan(-step, 0), ArrowRight: () => pan(step, 0), ArrowUp: () => pan(0, step), ArrowDown: () => pan(0, -step),
      "+": () => zoom(...middle, 1.3), "-": () => zoom(...middle, 1 / 1.3), 0: () => { goHome(panel); redraw(); },
    };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
}

function pick(panel, event, [x, y]) {
  const reach = (radiusOf(panel) + 7 * (devicePixelRatio || 1)) / panel.view.scale;
  const seen = (row) => states[row] === SHOWN || states[row] === FOUND;
  hover(panel.grid.nearest(...toData(panel, x, y), reach, seen), event);
}

function hover(row, event) {
  const card = byId("card");
  if (row !== hovered) {
    hovered = row;
    if (row < 0) { pinned = false; card.classList.remove("pinned"); }
    card.hidden = row < 0;
    if (row >= 0) fillCard(card, row);
    panels.forEach((panel) => panel.overlay && drawOverlay(panel));
  }
  if (row >= 0 && event) {
    const { width, height } = card.getBoundingClientRect();
    const flip = (at, length, most) => (at + 16 + length > most ? Math.max(4, at - 16 - length) : at + 16);
    card.style.transform = `translate(${flip(event.clientX, width, innerWidth)}px, ${flip(event.clientY, height, innerHeight)}px)`;
  }
}

function unpin() {
  pinned = false;
  hover(-1);
}

function fillCard(card, row) {
  const [text, ...others] = data.hover.map((column) => [column.name, column.values[row]]);
  const list = make("dl");
  for (const [name, value] of others) {
    const isLabel = names && name === names.column && value === names.names[codes[row]];
    list.append(make("dt", { textContent: name }), make("dd", {}, ...(isLabel ? spelled(names.pieces[codes[row]]) : [value])));
  }
  card.replaceChildren(...(text ? [make("p", {}, ...marked(text[1]))] : []), list);
}

// Cuts a text at the hits of the search, so that they can be marked.
function marked(text) {
  const wanted = query.toLowerCase(), lower = text.toLowerCase();
  if (wanted === "" || lower.length !== text.length) return [text];
  const parts = [];
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    parts.push(text.slice(from, at), make("mark", { textContent: text.slice(at, at + wanted.length) }));
    from = at + wanted.length;
  }
  return [...parts, text.slice(from)];
}

// ---- tools

byId("search").addEventListener("input", (event) => { query = event.target.value; applyStates(); });
byId("names").addEventListener("click", (event) => {
  showNames = !showNames;
  event.currentTarget.setAttribute("aria-pressed", String(showNames));
  redraw();
});
byId("smaller").addEventListener("click", () => { size /= 1.25; redraw(); });
byId("larger").addEventListener("click", () => { size *= 1.25; redraw(); });
byId("theme").addEventListener("click", () => { dark = !dark; applyTheme(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => { dark = event.matches; applyTheme(); });
byId("reset").addEventListener("click", () => {
  hidden.clear();
  byId("search").value = query = "";
  size = 1;
  panels.forEach(goHome);
  applyStates();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") unpin(); });
if (!names) byId("names").hidden = true;
if (!data.hover.length) byId("search").hidden = true;
buildLegend();
buildPanels();
applyTheme();
applyStates();
