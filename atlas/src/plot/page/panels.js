// The scatter plots: what part of the plane each one shows, and when it is painted.
const ZOOM_MIN = 0.5, ZOOM_MAX = 2 ** 15, FLIGHT_MS = 280;
const panels = data.panels.map((panel) => {
  const xy = new Float32Array(bytes(panel.xy).buffer);
  return { ...panel, xy, view: { x: 0, y: 0, scale: 1 }, homeScale: 1, home: true };
});
const gridOf = (panel) => (panel.grid ??= makeGrid(panel.xy));
const order = Uint32Array.from({ length: n }, (_, row) => row);
for (let i = n - 1, seed = 42; i > 0; i--) {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  const j = seed % (i + 1);
  [order[i], order[j]] = [order[j], order[i]];
}
let painter = makePainter(panels, order, data.outlines, repaint);
document.documentElement.dataset.drawn = painter.kind;
let current = panels[0], size = 1;

// A browser may take the graphics memory away, as phones do from pages in the background, and give it back empty.
function repaint() {
  painter = makePainter(panels, order, data.outlines, repaint);
  painter.setStates(states);
  applyColours();
}

function buildPanels() {
  const grid = byId("panels");
  const across = Math.ceil(Math.sqrt(panels.length));
  grid.style.gridTemplateColumns = `repeat(${across}, minmax(0, 1fr))`;
  panels.forEach((panel, index) => {
    panel.canvas = make("canvas", { ariaHidden: "true" });
    panel.overlay = make("canvas", { tabIndex: 0 });
    panel.overlay.setAttribute("role", "application");
    panel.overlay.setAttribute("aria-roledescription", "scatter plot");
    panel.overlay.setAttribute("aria-label", `${panel.title || document.title}: ${counted(n, "point")}`);
    panel.overlay.setAttribute("aria-describedby", "keys");
    panel.plot = make("div", { className: "plot" }, panel.canvas, panel.overlay, zoomButtons(panel));
    const box = make("div", { className: "panel" });
    if (panel.title) box.append(make("h2", { textContent: panel.title }));
    if (panel.note) box.append(make("p", { textContent: panel.note }));
    box.append(panel.plot);
    grid.append(box);
    listen(panel, index);
    new ResizeObserver(redraw).observe(panel.plot);
  });
}

function zoomButtons(panel) {
  const button = (text, label, act) => {
    const element = make("button", { type: "button", textContent: text, title: label });
    element.setAttribute("aria-label", label);
    element.addEventListener("click", () => { current = panel; act(); });
    return element;
  };
  const box = make("div", { className: "zoom" }, button("+", "Zoom in", () => zoomBy(panel, 1.8)),
    button("−", "Zoom out", () => zoomBy(panel, 1 / 1.8)), button("⤢", "Show everything", () => fly(panel, homeView(panel), true)));
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", panel.title ? `Zoom of ${panel.title}` : "Zoom");
  return box;
}

function resize(panel) {
  const ratio = devicePixelRatio || 1;
  const width = Math.max(1, Math.round(panel.plot.clientWidth * ratio));
  const height = Math.max(1, Math.round(panel.plot.clientHeight * ratio));
  if (panel.canvas.width === width && panel.canvas.height === height) return;
  const zoom = panel.view.scale / panel.homeScale;
  for (const canvas of [panel.canvas, panel.overlay]) Object.assign(canvas, { width, height });
  const home = homeView(panel);
  panel.homeScale = home.scale;
  panel.view = panel.home ? home : { ...panel.view, scale: home.scale * zoom };
  forgetNames();
}

function homeView(panel) {
  const { left, right, low, high } = panel.start;
  const { width, height } = panel.canvas;
  const fits = Math.min((width * 0.94) / (right - left), (height * 0.94) / (high - low));
  return { x: (left + right) / 2, y: (low + high) / 2, scale: Number.isFinite(fits) && fits > 0 ? fits : 1 };
}

const zoomed = (panel, scale) => Math.max(ZOOM_MIN * allScale(panel), Math.min(ZOOM_MAX * panel.homeScale, scale));
// The scale at which the points beyond the first view are seen, too.
function allScale(panel) {
  const { left, right, low, high } = gridOf(panel).bounds, { x, y } = homeView(panel);
  const [across, up] = [Math.max(right - x, x - left), Math.max(high - y, y - low)];
  return Math.min(panel.homeScale, (panel.canvas.width * 0.47) / (across || 1), (panel.canvas.height * 0.47) / (up || 1));
}
const zoomBy = (panel, factor) => fly(panel, { ...(panel.flight?.to ?? panel.view), scale: zoomed(panel, (panel.flight?.to ?? panel.view).scale * factor) });

function pan(panel, dx, dy) {
  panel.flight = null;
  panel.view.x += dx;
  panel.view.y += dy;
  panel.home = false;
  redrawMoving();
}

function zoomAt(panel, x, y, factor) {
  const [dataX, dataY] = toData(panel, x, y);
  panel.view.scale = zoomed(panel, panel.view.scale * factor);
  const [newX, newY] = toData(panel, x, y);
  pan(panel, dataX - newX, dataY - newY);
}

// Moves a view in a straight line on the screen, at once where motion is unwanted.
function fly(panel, to, home = false) {
  const from = { ...panel.view }, flight = { to };
  panel.flight = flight;
  panel.home = home;
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches || document.hidden;
  const begun = performance.now();
  const step = (now) => {
    if (panel.flight !== flight) return;
    const part = isStill ? 1 : Math.min(1, Math.max(0, (now - begun) / FLIGHT_MS)), eased = part * part * (3 - 2 * part);
    const scale = from.scale * (to.scale / from.scale) ** eased, rest = ((1 - eased) * from.scale) / scale;
    panel.view = part === 1 ? { ...to } : { x: to.x - (to.x - from.x) * rest, y: to.y - (to.y - from.y) * rest, scale };
    if (part === 1) panel.flight = null;
    redrawMoving();
    if (part < 1) requestAnimationFrame(step);
  };
  step(begun);
}

function radiusOf(panel) {
  const { width, height } = panel.canvas;
  const ratio = devicePixelRatio || 1;
  const covering = (share, count) => Math.sqrt((width * height * share) / (Math.PI * Math.max(1, count)));
  const home = Math.max(covering(0.05, n), Math.min(3 * ratio, covering(0.03, panel.crowds)));
  const { left, right } = panel.start;
  const zoom = Math.max(1, (panel.view.scale * (right - left || 1)) / width);
  return Math.max(1.1 * ratio, Math.min(5 * ratio, home * Math.sqrt(zoom))) * size;
}

// The more points lie on each other, the more of each shines through, so that dense parts differ from full ones.
const CROWD_CELLS = 128, OPACITY_MAX = 0.8, OPACITY_MIN = 0.12;
function opacityOf(panel, radius, count) {
  const { left, right, low, high } = panel.start;
  const cell = (Math.max(right - left, high - low) / CROWD_CELLS) * panel.view.scale;
  const overlap = (count * Math.PI * radius * radius) / Math.max(1, panel.crowds * cell * cell);
  return Math.max(OPACITY_MIN, Math.min(OPACITY_MAX, 1.2 / overlap ** 0.6));
}

// While the view moves, a machine that cannot keep up draws fewer points; once it rests, all of them.
const LEAST = 20000, SLOW_MS = 45, FAST_MS = 20, REST_MS = 160;
let waiting = false, budget = n, lastFrame = 0, rest = 0;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const begun = performance.now();
    paint(n);
    const took = performance.now() - begun;
    if (took > SLOW_MS) budget = Math.max(LEAST, Math.min(budget, (n * SLOW_MS) / took));
  });
}

function redrawMoving() {
  clearTimeout(rest);
  rest = setTimeout(() => { lastFrame = 0; redraw(); noteLink(); }, REST_MS);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame((now) => {
    waiting = false;
    if (lastFrame && now - lastFrame > SLOW_MS) budget = Math.max(LEAST, budget / 2);
    else if (lastFrame && now - lastFrame < FAST_MS) budget = Math.min(n, budget * 1.2);
    lastFrame = now;
    paint(budget);
  });
}

function paint(most) {
  panels.forEach((panel, index) => {
    if (!panel.canvas) return;
    // A window that moves to another screen keeps its size, but not its pixels, and nothing tells.
    resize(panel);
    if (panel.canvas.width > 1) {
      const radius = radiusOf(panel);
      painter.paint(panel.canvas, index, panel.view, radius, opacityOf(panel, radius, Math.min(n, most)), most);
      drawOverlay(panel);
    }
  });
}

const toScreen = (panel, x, y) => [(x - panel.view.x) * panel.view.scale + panel.canvas.width / 2,
  panel.canvas.height / 2 - (y - panel.view.y) * panel.view.scale];
const toData = (panel, x, y) => [(x - panel.canvas.width / 2) / panel.view.scale + panel.view.x,
  (panel.canvas.height / 2 - y) / panel.view.scale + panel.view.y];
const placeOf = (panel, row) => toScreen(panel, panel.xy[2 * row], panel.xy[2 * row + 1]);

function drawOverlay(panel) {
  const ratio = devicePixelRatio || 1;
  const context = panel.overlay.getContext("2d");
  context.clearRect(0, 0, panel.overlay.width, panel.overlay.height);
  const ink = dark ? "#ffffff" : "#000000", rim = dark ? "#14161a" : "#ffffff";
  const ring = (row, radius, wide) => {
    const [x, y] = placeOf(panel, row);
    for (const [colour, width] of [[rim, wide + 3], [ink, wide]]) {
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      Object.assign(context, { strokeStyle: colour, lineWidth: width * ratio });
      context.stroke();
    }
  };
  if (pinned) {
    for (const other of neighbours) ring(other, radiusOf(panel) * 1.2 + 1.5 * ratio, 1);
  }
  if (showNames) drawNames(panel, context, ratio, rim);
  if (hovered >= 0) ring(hovered, radiusOf(panel) * 1.5 + 3 * ratio, 2);
  if (panel.outline?.length > 1) {
    context.beginPath();
    panel.outline.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
    Object.assign(context, { fillStyle: dark ? "rgb(255 255 255 / 0.1)" : "rgb(0 0 0 / 0.07)", strokeStyle: ink, lineWidth: 1.5 * ratio });
    context.fill();
    context.stroke();
  }
}
