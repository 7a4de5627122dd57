// The selection, its table and its download. The table has only the rows in sight as elements, so that its length is no matter.
const ROW_PX = 26, SPARE_ROWS = 8, CELL_CHARS = 300, TALLEST_PX = 8e6;
let tableRows = new Uint32Array(0), sortedBy = -1, descending = false, activeRow = 0;

// Selects the shown points within an outline, given in pixels of the panel.
function select(panel, outline) {
  const corners = outline.map(([x, y]) => toData(panel, x, y)), flags = new Uint8Array(n);
  const xs = corners.map(([x]) => x), ys = corners.map(([, y]) => y);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  let count = 0;
  for (let row = 0; row < n; row++) {
    const x = panel.xy[2 * row], y = panel.xy[2 * row + 1];
    if (states[row] === HIDDEN || x < left || x > right || y < low || y > high) continue;
    let isInside = false;
    for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
      const [ax, ay] = corners[i], [bx, by] = corners[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) isInside = !isInside;
    }
    if (isInside) { flags[row] = 1; count++; }
  }
  selection = count ? flags : null;
  if (count) byId("tray").hidden = false;
  unpin();
  applyStates();
}

function clearSelection() {
  selection = null;
  byId("tray").hidden = true;
  applyStates();
}

function closeTray() {
  byId("tray").hidden = true;
  byId("table").setAttribute("aria-pressed", "false");
  if (selection) clearSelection();
}

function fillTray() {
  const tray = byId("tray");
  byId("table").setAttribute("aria-pressed", String(!tray.hidden));
  if (tray.hidden) return;
  const least = found ? FOUND : SHOWN;
  let count = 0;
  for (let row = 0; row < n; row++) if (states[row] >= least) count++;
  tableRows = new Uint32Array(count);
  for (let row = n - 1; row >= 0; row--) if (states[row] >= least) tableRows[--count] = row;
  byId("tray-title").textContent = `${counted(tableRows.length, "row")}${selection ? " selected" : ""}`;
  byId("download").disabled = tableRows.length === 0;
  sortRows();
  byId("rows").scrollTop = 0;
  activeRow = 0;
  drawRows();
}

function sortRows() {
  if (sortedBy < 0) return;
  const keys = (columns[sortedBy].sorted ??= columns[sortedBy].keys()), sign = descending ? -1 : 1;
  tableRows.sort((a, b) => sign * compare(keys[a], keys[b]) || a - b);
}

function buildTable() {
  const head = make("tr");
  head.setAttribute("aria-rowindex", "1");
  columns.forEach((column, index) => {
    const button = make("button", { type: "button", textContent: column.name });
    button.addEventListener("click", () => {
      descending = sortedBy === index && !descending;
      sortedBy = index;
      head.querySelectorAll("th").forEach((other, at) => other.setAttribute("aria-sort", at !== index ? "none" : descending ? "descending" : "ascending"));
      sortRows();
      drawRows();
    });
    const cell = make("th", { scope: "col" }, button);
    cell.setAttribute("aria-sort", "none");
    cell.style.width = column === texts ? "420px" : `${Math.max(9, Math.min(24, column.name.length + 4), ...sampleLengths(column))}ch`;
    head.append(cell);
  });
  const scroller = byId("rows");
  scroller.append(make("table", {}, make("thead", {}, head), make("tbody")));
  scroller.querySelector("table").setAttribute("role", "grid");
  scroller.addEventListener("scroll", () => requestAnimationFrame(drawRows));
  new ResizeObserver(drawRows).observe(scroller);
  scroller.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(scroller.clientHeight / ROW_PX) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) activeRow = Math.max(0, Math.min(tableRows.length - 1, activeRow + steps[event.key]));
    else if (event.key === "Enter" && event.target === scroller) { if (tableRows.length) go(tableRows[activeRow]); } else return;
    event.preventDefault();
    const { first, seen } = rowsInSight();
    if (activeRow < first || activeRow >= first + seen - 1) scroller.scrollTop = (activeRow / Math.max(1, tableRows.length - seen + 1)) * (tallness() - scroller.clientHeight);
    drawRows();
  });
}

const sampleLengths = (column) => [0, 1, 2, 3].filter((row) => row < n).map((row) => Math.min(24, column.at(row).length + 3));
const tallness = () => Math.min(TALLEST_PX, (tableRows.length + 1) * ROW_PX);

// The first row in sight. A browser's elements have a greatest height, so that very many rows are scrolled by shares.
function rowsInSight() {
  const { scrollTop, clientHeight } = byId("rows"), seen = Math.max(1, Math.floor(clientHeight / ROW_PX));
  const share = scrollTop / Math.max(1, tallness() - clientHeight);
  return { seen, first: Math.round(Math.max(0, Math.min(1, share)) * Math.max(0, tableRows.length + 1 - clientHeight / ROW_PX)) };
}

function drawRows() {
  const scroller = byId("rows"), body = scroller.querySelector("tbody");
  if (byId("tray").hidden) return;
  scroller.querySelector("table").setAttribute("aria-rowcount", String(tableRows.length + 1));
  const { first, seen } = rowsInSight();
  const from = Math.max(0, first - SPARE_ROWS), to = Math.min(tableRows.length, first + seen + SPARE_ROWS);
  const spacer = (height) => {
    const cell = make("td", { colSpan: columns.length });
    cell.style.height = `${height}px`;
    return make("tr", { className: "space", ariaHidden: "true" }, cell);
  };
  // Beyond the greatest height, rows are placed around where the scroller is.
  const above = Math.min(tallness() - (to - from) * ROW_PX, Math.max(0, tallness() < TALLEST_PX ? from * ROW_PX : scroller.scrollTop - (first - from) * ROW_PX));
  const rows = [];
  for (let place = from; place < to; place++) {
    const row = tableRows[place];
    const line = make("tr", { className: place === activeRow ? "active" : "" }, ...columns.map((column) => {
      const text = column.at(row);
      return make("td", { textContent: tidy(text.length > CELL_CHARS ? `${text.slice(0, CELL_CHARS)}…` : text) });
    }));
    line.setAttribute("aria-rowindex", String(place + 2));
    line.addEventListener("click", () => { activeRow = place; drawRows(); go(row); });
    rows.push(line);
  }
  body.replaceChildren(spacer(above), ...rows, spacer(Math.max(0, tallness() - ROW_PX - above - rows.length * ROW_PX)));
}

// A field as RFC 4180 has it. Spreadsheets run a cell that begins with these signs as a formula, unless it is a number; an
// apostrophe keeps them from that. Where semicolons separate cells, or quotes are not seen, one may begin within a text.
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/, INNER_FORMULA = /([;\t\r\n])(?=[=+\-@＝＋－＠][\p{L}\p{N}(])/gu;
function csvField(text, isSafe) {
  const guarded = !isSafe || NUMBER.test(text) ? text : `${FORMULA.test(text) ? "'" : ""}${text.replace(INNER_FORMULA, "$1'")}`;
  return /[",\r\n]|^\s|\s$/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded;
}

function csv(rows, isSafe) {
  const parts = ["\ufeff", columns.map((column) => csvField(column.name, isSafe)).join(","), "\r\n"];
  for (const row of rows) parts.push(columns.map((column) => csvField(column.at(row), isSafe)).join(","), "\r\n");
  return new Blob(parts, { type: "text/csv;charset=utf-8" });
}

function download() {
  const url = URL.createObjectURL(csv(tableRows, byId("safe").checked));
  const name = document.title.replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(0, 80) || "rows";
  make("a", { href: url, download: `${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
