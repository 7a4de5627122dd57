// Puts the parts together: the tools, and what is done once at the start.
function reset() {
  for (const labels of colourings) labels.hidden?.clear();
  for (const labels of [...ranges.keys()]) labels.setRange(0, 1);
  selection = null;
  byId("tray").hidden = true;
  byId("size").value = "0";
  size = 1;
  setMode("move");
  unpin();
  setColouring(data.labelled ? 0 : -1);
  for (const panel of panels) fly(panel, homeView(panel), true);
  setQuery("");
}

function listenToTools() {
  byId("names").addEventListener("click", (event) => {
    showNames = !showNames;
    event.currentTarget.setAttribute("aria-pressed", String(showNames));
    redraw();
  });
  byId("size").addEventListener("input", (event) => { size = 1.25 ** Number(event.target.value); redraw(); });
  byId("theme").addEventListener("click", () => { dark = !dark; applyColours(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => { dark = event.matches; applyColours(); });
  byId("reset").addEventListener("click", reset);
  for (const button of document.querySelectorAll("#modes button")) button.addEventListener("click", () => setMode(button.value));
  byId("table").addEventListener("click", () => {
    if (!byId("tray").hidden) return closeTray();
    byId("tray").hidden = false;
    fillTray();
  });
  byId("close-tray").addEventListener("click", closeTray);
  byId("download").addEventListener("click", download);
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => { if (link() !== location.hash.slice(1)) restore(); });
}

// What the first view does not show, and what is not in the page.
function notes() {
  const outside = panels.reduce((sum, panel) => sum + panel.outside, 0);
  const far = outside ? [`${counted(outside, "point")} ${outside === 1 ? "lies" : "lie"} beyond the first view: zoom out to see ${outside === 1 ? "it" : "them"}.`] : [];
  return data.leftOut.length ? [...far, `So that browsers can open this file: ${data.leftOut.join("; ")}.`] : far;
}

byId("search").hidden = !texts;
byId("table").hidden = !columns.length;
byId("left-out").textContent = notes().join(" ");
buildPanels();
buildColours();
buildTable();
listenToSearch();
listenToTools();
setMode("move");
panels.forEach(resize);
restore();
