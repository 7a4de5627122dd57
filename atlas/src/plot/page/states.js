// What is shown of each row: hidden by legend or filter, dim where a search or a selection is elsewhere.
const states = new Uint8Array(n).fill(SHOWN);
const ranges = new Map();
let query = "", foldedQuery = "", found = null, selection = null;

function applyStates() {
  states.fill(SHOWN);
  for (const labels of colourings) {
    if (labels.hidden?.size) {
      const isHidden = labels.names.map((_, code) => labels.hidden.has(code));
      for (let row = 0; row < n; row++) if (isHidden[labels.codes[row]]) states[row] = HIDDEN;
    }
    const range = ranges.get(labels);
    if (range) {
      for (let row = 0; row < n; row++) {
        const share = labels.shares[row];
        if (share === NO_SHARE || share < range[0] || share > range[1]) states[row] = HIDDEN;
      }
    }
  }
  const counts = { shown: 0, selected: 0, found: 0 };
  for (let row = 0; row < n; row++) {
    if (states[row] === HIDDEN) continue;
    counts.shown++;
    const isSelected = !selection || selection[row] === 1;
    if (isSelected) counts.selected++;
    if (!found) {
      if (!isSelected) states[row] = DIM;
    } else if (isSelected && found[row]) {
      states[row] = FOUND;
      counts.found++;
    } else {
      states[row] = DIM;
    }
  }
  painter.setStates(states);
  forgetNames();
  say(counts);
  markLegend();
  fillHits(counts.found);
  fillTray();
  if (hovered >= 0 && !isSeen(hovered)) hover(-1);
  redraw();
  noteLink();
}

function say({ shown, selected, found: hits }) {
  const by = colourings.filter((labels) => labels.hidden?.size || ranges.has(labels)).map((labels) => `“${tidy(labels.column)}”`);
  let text = shown === n ? counted(n, "point") : `${counted(shown)} of ${counted(n, "point")} (others hidden by ${by.join(", ")})`;
  if (selection) text += ` · ${counted(selected)} selected`;
  if (found) text += ` · ${counted(hits)} ${hits === 1 ? "matches" : "match"}`;
  byId("status").textContent = text;
}

// Searches all texts; long ones in portions, so that typing goes on.
const PORTION_MS = 25;
let searching = 0;
async function setQuery(text) {
  query = text;
  foldedQuery = fold(text);
  if (byId("search").value !== text) byId("search").value = text;
  const mine = ++searching;
  let flags = null;
  if (foldedQuery && texts) {
    flags = new Uint8Array(n);
    let since = performance.now();
    for (let row = 0; row < n; row++) {
      if (texts.folded(row).includes(foldedQuery)) flags[row] = 1;
      if (row % 1000 === 999 && performance.now() - since > PORTION_MS) {
        await new Promise((done) => setTimeout(done));
        if (mine !== searching) return;
        since = performance.now();
      }
    }
  }
  found = flags;
  hit = -1;
  applyStates();
}
