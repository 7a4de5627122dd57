// The legend is a filter: a click hides a label or shows it again. Numbers have a bar, and a histogram to choose a range.
const BINS = 48;

function fillLegend() {
  const legend = byId("legend");
  legend.replaceChildren();
  if (colouring?.kind === "names") {
    const all = make("button", { type: "button", className: "all", textContent: "Show all" });
    all.addEventListener("click", () => { colouring.hidden.clear(); applyStates(); });
    legend.append(make("div", { className: "head" }, make("h2", { textContent: tidy(colouring.column) }), all),
      make("ul", {}, ...colouring.names.map((_, code) => legendItem(colouring, code))));
  } else if (colouring) {
    const ticks = make("ol", {}, ...colouring.ticks.map(([share, tick]) => {
      const item = make("li", { textContent: tick });
      item.style.bottom = `${100 * share}%`;
      return item;
    }));
    const bar = make("div", { id: "bar" });
    bar.style.background = `linear-gradient(to top, ${ramp().map((colour) => `rgb(${colour})`)})`;
    const note = colouring.note ? [make("p", { textContent: colouring.note })] : [];
    legend.append(make("h2", { textContent: tidy(colouring.column) }), ...note, make("div", { id: "bar-row" }, bar, ticks));
    for (const other of colouring.others) {
      const spot = make("span", { className: "missing" });
      spot.style.background = `rgb(${missing()})`;
      legend.append(make("p", {}, spot, other));
    }
  }
  markLegend();
}

function legendItem(labels, code) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "-16 -16 32 32");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path"), look = lookOf(labels, code);
  path.setAttribute("d", data.outlines[look[3]]);
  path.setAttribute("fill", `rgb(${look.slice(0, 3)})`);
  svg.append(path);
  const button = make("button", { type: "button", className: "label", title: `${tidy(labels.names[code])}\nClick hides or shows; a double click shows only this one` },
    svg, make("span", {}, ...spelled(labels.pieces[code])), make("small", { textContent: counted(labels.counts[code]) }));
  const only = make("button", { type: "button", className: "only", textContent: "only" });
  only.setAttribute("aria-label", `Only ${tidy(labels.names[code])}`);
  button.addEventListener("click", (event) => (event.altKey || event.shiftKey ? showOnly(code) : toggle(code)));
  button.addEventListener("dblclick", () => showOnly(code));
  only.addEventListener("click", () => showOnly(code));
  return make("li", {}, button, only);
}

function markLegend() {
  const labels = named();
  if (!labels) return;
  document.querySelectorAll("#legend .label").forEach((button, code) => button.setAttribute("aria-pressed", String(!labels.hidden.has(code))));
  document.querySelector("#legend .all").hidden = labels.hidden.size === 0;
}

function toggle(code) {
  const { hidden } = named();
  if (!hidden.delete(code)) hidden.add(code);
  applyStates();
}

// Shows one label alone, or all again where it is alone already.
function showOnly(code) {
  const { hidden, names } = named();
  const isAlone = hidden.size === names.length - 1 && !hidden.has(code);
  hidden.clear();
  if (!isAlone) names.forEach((_, other) => other !== code && hidden.add(other));
  applyStates();
}

function setColouring(index) {
  colouring = colourings[index] ?? null;
  byId("colour").value = String(index);
  byId("names").hidden = !named();
  forgetNames();
  applyColours();
  noteLink();
}

function buildColours() {
  const select = byId("colour");
  select.append(make("option", { value: "-1", textContent: "one colour" }),
    ...colourings.map((labels, index) => make("option", { value: String(index), textContent: tidy(labels.column) })));
  select.addEventListener("change", () => setColouring(Number(select.value)));
  byId("colour-by").hidden = colourings.length < (data.labelled ? 2 : 1);
  const filters = byId("filters");
  for (const labels of colourings) if (labels.kind === "numbers") filters.append(buildFilter(labels));
  filters.hidden = !filters.querySelector("details");
}

// A histogram of a column of numbers or dates: dragging over it, or its two sliders, choose a range.
function buildFilter(labels) {
  const text = make("small"), name = tidy(labels.column), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const ends = ["From", "To"].map((end, i) => {
    const input = make("input", { type: "range", min: "0", max: "1000", value: String(1000 * i) });
    input.setAttribute("aria-label", `${end}: ${name}`);
    input.addEventListener("input", () => {
      const values = ends.map((other) => Number(other.value));
      if (values[0] > values[1]) values[1 - i] = values[i];
      labels.setRange(values[0] / 1000, values[1] / 1000);
    });
    return input;
  });
  svg.setAttribute("viewBox", `0 0 ${BINS} 30`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Histogram of ${name}`);
  const details = make("details", {}, make("summary", {}, name, " ", text), svg, ...ends);
  details.addEventListener("toggle", () => details.open && !svg.firstChild && drawHistogram(svg, labels));
  labels.setRange = (low, high) => {
    const isAll = low <= 0 && high >= 1;
    if (isAll) ranges.delete(labels); else ranges.set(labels, [low, high].map((share) => Math.round(share * (NO_SHARE - 1))));
    ends[0].value = String(Math.round(low * 1000));
    ends[1].value = String(Math.round(high * 1000));
    svg.querySelectorAll("rect").forEach((bar, bin) => bar.classList.toggle("out", (bin + 1) / BINS <= low || bin / BINS >= high));
    text.textContent = isAll ? "" : rangeText(labels);
    applyStates();
  };
  brush(svg, labels);
  return details;
}

function drawHistogram(svg, labels) {
  const bins = new Uint32Array(BINS);
  for (const share of labels.shares) if (share !== NO_SHARE) bins[Math.min(BINS - 1, Math.floor((share / (NO_SHARE - 1)) * BINS))]++;
  const most = bins.reduce((a, b) => Math.max(a, b), 1), [low, high] = (ranges.get(labels) ?? [0, NO_SHARE]).map((share) => share / (NO_SHARE - 1));
  bins.forEach((count, bin) => {
    // The square root keeps small bins visible.
    const bar = document.createElementNS(svg.namespaceURI, "rect"), height = 29 * Math.sqrt(count / most);
    for (const [key, value] of Object.entries({ x: bin + 0.05, y: 30 - height, width: 0.9, height })) bar.setAttribute(key, String(value));
    bar.classList.toggle("out", (bin + 1) / BINS <= low || bin / BINS >= high);
    svg.append(bar);
  });
}

function brush(svg, labels) {
  let from = null;
  const share = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); from = share(event); });
  svg.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = share(event);
    if (Math.abs(to - from) > 0.01) labels.setRange(Math.min(from, to), Math.max(from, to));
  });
  svg.addEventListener("pointerup", (event) => {
    if (Math.abs(share(event) - from) <= 0.01) labels.setRange(0, 1);
    from = null;
  });
  svg.addEventListener("pointercancel", () => { from = null; });
}

// The least and the greatest value within the range, as the column writes them.
function rangeText(labels) {
  const [low, high] = ranges.get(labels), column = columns.find((other) => other.name === tidy(labels.column));
  let least = -1, greatest = -1;
  for (let row = 0; row < n; row++) {
    const share = labels.shares[row];
    if (share === NO_SHARE || share < low || share > high) continue;
    if (least < 0 || share < labels.shares[least]) least = row;
    if (greatest < 0 || share > labels.shares[greatest]) greatest = row;
  }
  return least < 0 || !column ? "no rows" : `${tidy(column.at(least))} – ${tidy(column.at(greatest))}`;
}
