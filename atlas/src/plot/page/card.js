// The card of a point: its values and its nearest neighbours. It follows the pointer until a click pins it.
const NEIGHBOURS = 8, EXCERPT = 140;
let hovered = -1, pinned = false, neighbours = [];

function hover(row, at) {
  const card = byId("card");
  if (row !== hovered) {
    hovered = row;
    pinned = false;
    neighbours = [];
    card.hidden = row < 0;
    card.classList.remove("pinned");
    if (row >= 0) fillCard(card, row);
    panels.forEach((panel) => panel.overlay && drawOverlay(panel));
  }
  if (row >= 0 && at) placeCard(card, at);
}

function placeCard(card, at) {
  const { width, height } = card.getBoundingClientRect();
  const flip = (from, length, most) => (from + 16 + length > most ? Math.max(4, from - 16 - length) : from + 16);
  card.style.transform = `translate(${flip(at.clientX, width, innerWidth)}px, ${flip(at.clientY, height, innerHeight)}px)`;
}

function pin(row, at) {
  hover(row);
  pinned = true;
  neighbours = neighboursOf(row).slice(0, NEIGHBOURS);
  const card = byId("card");
  card.classList.add("pinned");
  fillCard(card, row);
  if (at) placeCard(card, at);
  panels.forEach((panel) => panel.overlay && drawOverlay(panel));
  noteLink();
}

function unpin() {
  hover(-1);
  noteLink();
}

// Shows a point from near in all panels, with its card.
const GO_ZOOM = 8;
function go(row) {
  for (const panel of panels) {
    fly(panel, { x: panel.xy[2 * row], y: panel.xy[2 * row + 1], scale: Math.max(panel.view.scale, panel.homeScale * GO_ZOOM) });
  }
  const box = current.overlay.getBoundingClientRect();
  pin(row, { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 });
}

function screenOf(panel, row) {
  const box = panel.overlay.getBoundingClientRect(), ratio = panel.overlay.width / box.width, [x, y] = placeOf(panel, row);
  return { clientX: box.left + x / ratio, clientY: box.top + y / ratio };
}

// By the vectors where the page has that, else near on the map.
function neighboursOf(row) {
  const { nearest } = current;
  if (!nearest) return gridOf(current).neighbours(row, NEIGHBOURS);
  nearest.rows ??= new Uint32Array(bytes(nearest.ids).buffer);
  return [...nearest.rows.subarray(row * nearest.k, (row + 1) * nearest.k)];
}
const excerpt = (text) => (text.length > EXCERPT ? `${text.slice(0, EXCERPT)}…` : text);

function fillCard(card, row) {
  const list = make("dl");
  for (const column of columns) {
    if (column === texts) continue;
    const labels = colourings.find((other) => other.kind === "names" && other.column === column.name);
    const value = column.at(row), isLabel = labels && value === labels.names[labels.codes[row]];
    list.append(make("dt", { textContent: column.name }), make("dd", {}, ...(isLabel ? spelled(labels.pieces[labels.codes[row]]) : [tidy(value)])));
  }
  const parts = [list];
  if (texts) parts.unshift(make("p", {}, ...marked(texts.at(row), foldedQuery)));
  if (pinned) {
    const close = make("button", { type: "button", className: "close", textContent: "×" });
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", unpin);
    parts.unshift(close);
    const others = gridOf(current).atPlaceOf(row) - 1;
    if (others > 0) parts.push(make("p", { className: "same", textContent: `${counted(others, "more row")} at the same place` }));
    if (neighbours.length) parts.push(neighbourList());
  }
  card.replaceChildren(...parts);
}

function neighbourList() {
  const list = make("ol", {}, ...neighbours.map((other) => {
    const shown = texts ? excerpt(texts.at(other)) : `row ${other}`;
    const button = make("button", { type: "button", textContent: tidy(shown) || "(empty)" });
    button.addEventListener("click", () => go(other));
    return make("li", {}, button);
  }));
  const by = current.nearest ? "Nearest by their vectors" : "Nearest on this map";
  return make("section", {}, make("h3", { textContent: current.title ? `${by}, ${tidy(current.title)}` : by }), list);
}
