// The address says what is seen: view, search, hidden labels, ranges, colours, pinned point. Opening it again shows the same.
let linkTimer = 0, isRestoring = false;
const LINK_MS = 400;
const short = (number) => String(Number(number.toPrecision(6)));

function link() {
  const params = new URLSearchParams(), now = new URLSearchParams(location.hash.slice(1));
  if (now.has("plain")) params.set("plain", "");
  if (panels.some((panel) => !panel.home)) {
    const place = ({ home, flight, view, homeScale }) => {
      const { x, y, scale } = flight?.to ?? view;
      return home ? "" : [x, y, scale / homeScale].map(short).join(",");
    };
    params.set("view", panels.map(place).join(";"));
  }
  if (query) params.set("search", query);
  const chosen = colouring ? colourings.indexOf(colouring) : -1;
  if (chosen !== (data.labelled ? 0 : -1)) params.set("colour", String(chosen));
  const hiddenOf = colourings.map((labels, index) => labels.hidden?.size && `${index}:${[...labels.hidden].join(",")}`).filter(Boolean);
  if (hiddenOf.length) params.set("hidden", hiddenOf.join(";"));
  const rangesOf = [...ranges].map(([labels, range]) => `${colourings.indexOf(labels)}:${range.join(",")}`);
  if (rangesOf.length) params.set("range", rangesOf.join(";"));
  if (pinned) params.set("point", String(hovered));
  return params.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%3B", ";");
}

function noteLink() {
  if (isRestoring) return;
  clearTimeout(linkTimer);
  linkTimer = setTimeout(() => {
    const wanted = link();
    if (wanted === location.hash.slice(1)) return;
    // Some browsers refuse it within frames, or after very many changes; the page works without.
    try { history.replaceState(null, "", `#${wanted}`); } catch { /* the next change tries again */ }
  }, LINK_MS);
}

// Takes what fits of an address; anybody may have written it.
function restore() {
  const params = new URLSearchParams(location.hash.slice(1));
  isRestoring = true;
  const lists = (key) => (params.get(key) ?? "").split(";").filter(Boolean).map((part) => {
    const [index, values] = part.split(":");
    return [colourings[index], (values ?? "").split(",").map(Number)];
  });
  const chosen = Number(params.get("colour") ?? (data.labelled ? 0 : -1));
  setColouring(colourings[chosen] || chosen === -1 ? chosen : data.labelled ? 0 : -1);
  for (const labels of colourings) labels.hidden?.clear();
  for (const [labels, codes] of lists("hidden")) codes.forEach((code) => labels?.names && code in labels.names && labels.hidden.add(code));
  for (const labels of colourings) if (ranges.has(labels)) labels.setRange(0, 1);
  for (const [labels, [low, high]] of lists("range")) if (labels?.shares && low <= high) labels.setRange(low / (NO_SHARE - 1), high / (NO_SHARE - 1));
  (params.get("view") ?? "").split(";").forEach((place, index) => {
    const panel = panels[index], [x, y, zoom] = place.split(",").map(Number);
    if (!panel) return;
    panel.flight = null;
    panel.home = !(place && [x, y, zoom].every(Number.isFinite) && zoom > 0);
    panel.view = panel.home ? homeView(panel) : { x, y, scale: zoomed(panel, panel.homeScale * zoom) };
  });
  for (const panel of panels) if (!params.has("view")) { panel.flight = null; panel.home = true; panel.view = homeView(panel); }
  setQuery(params.get("search") ?? "").then(() => {
    const row = Number(params.get("point") ?? NaN);
    if (Number.isInteger(row) && row >= 0 && row < n) pin(row, screenOf(current, row)); else hover(-1);
    isRestoring = false;
    redraw();
  });
}
