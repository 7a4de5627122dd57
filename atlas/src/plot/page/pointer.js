// Pointers and keys: drag, pinch, wheel, tap, and drawing a box or a lasso.
let mode = "move";
const CLICK_PX = 6, TOUCH_PX = 18, MOUSE_PX = 7;

function setMode(wanted) {
  mode = wanted;
  for (const button of document.querySelectorAll("#modes button")) button.setAttribute("aria-pressed", String(button.value === mode));
  document.documentElement.dataset.mode = mode;
}

function listen(panel) {
  const target = panel.overlay, pointers = new Map();
  let moved = 0, shape = null;
  const local = (event) => {
    const box = target.getBoundingClientRect(), ratio = target.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  };
  target.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(panel, ...local(event), Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0016)));
  }, { passive: false });
  target.addEventListener("focus", () => { current = panel; });
  target.addEventListener("pointerdown", (event) => {
    target.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, local(event));
    current = panel;
    moved = pointers.size > 1 ? Infinity : 0;
    shape = pointers.size > 1 ? null : mode === "move" && event.shiftKey ? "box" : mode === "move" ? null : mode;
    panel.outline = shape && [local(event)];
    if (moved) redraw();
  });
  target.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId), now = local(event);
    if (!before) return pinned || pick(panel, event, now);
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const step = Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (others.length === 1) {
      const apart = (at) => Math.hypot(at[0] - others[0][0], at[1] - others[0][1]);
      zoomAt(panel, (now[0] + others[0][0]) / 2, (now[1] + others[0][1]) / 2, apart(now) / Math.max(1, apart(before)));
      pan(panel, (before[0] - now[0]) / 2 / panel.view.scale, (now[1] - before[1]) / 2 / panel.view.scale);
    } else if (shape) {
      if (step < 2) return;
      moved += step;
      const [start] = panel.outline;
      panel.outline = shape === "lasso" ? [...panel.outline, now] : [start, [now[0], start[1]], now, [start[0], now[1]]];
      redraw();
    } else if (others.length === 0) {
      moved += step;
      pan(panel, (before[0] - now[0]) / panel.view.scale, (now[1] - before[1]) / panel.view.scale);
    }
    pointers.set(event.pointerId, now);
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    const outline = panel.outline;
    panel.outline = null;
    if (event.type === "pointercancel") return redraw();
    const isClick = moved <= CLICK_PX * (devicePixelRatio || 1);
    if (shape && !isClick && outline) return select(panel, outline);
    if (!isClick) return redraw();
    pinned = false;
    pick(panel, event, local(event));
    if (hovered >= 0) pin(hovered, event);
  };
  target.addEventListener("pointerup", release);
  target.addEventListener("pointercancel", release);
  target.addEventListener("pointerleave", () => pinned || pointers.size || hover(-1));
  target.addEventListener("dblclick", () => { unpin(); fly(panel, homeView(panel), true); });
}

// Keys work on the plot that was used last, unless something is typed.
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return escape(event);
  if (isTyping(event.target) || event.target.closest?.("#rows, #hits")) return;
  const onPlot = event.target === document.body || event.target.tagName === "CANVAS";
  const panel = current, step = (60 * (devicePixelRatio || 1)) / panel.view.scale;
  const keys = { "+": () => zoomBy(panel, 1.4), "=": () => zoomBy(panel, 1.4), "-": () => zoomBy(panel, 1 / 1.4), "−": () => zoomBy(panel, 1 / 1.4),
    0: () => fly(panel, homeView(panel), true), "/": () => byId("search").focus() };
  if (onPlot) {
    Object.assign(keys, { ArrowLeft: () => pan(panel, -step, 0), ArrowRight: () => pan(panel, step, 0), ArrowUp: () => pan(panel, 0, step),
      ArrowDown: () => pan(panel, 0, -step), Enter: () => pinMiddle(panel) });
  }
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
}

// Pins the card of the shown point that is nearest to the middle of the plot.
function pinMiddle(panel) {
  const row = gridOf(panel).nearest(panel.view.x, panel.view.y, panel.canvas.width / panel.view.scale, isSeen);
  if (row >= 0) pin(row, screenOf(panel, row));
}

// Escape ends one thing at a time: what is drawn, the card, the selection, the search.
function escape(event) {
  const drawing = panels.find((panel) => panel.outline);
  if (drawing) {
    drawing.outline = null;
    redraw();
  } else if (pinned || hovered >= 0) {
    unpin();
  } else if (selection) {
    clearSelection();
  } else if (query) {
    setQuery("");
  } else if (!byId("tray").hidden) {
    closeTray();
  } else {
    return;
  }
  event.preventDefault();
}

const isSeen = (row) => states[row] === SHOWN || states[row] === FOUND;
function pick(panel, event, [x, y]) {
  const reach = (radiusOf(panel) + (event.pointerType === "touch" ? TOUCH_PX : MOUSE_PX) * (devicePixelRatio || 1)) / panel.view.scale;
  hover(gridOf(panel).nearest(...toData(panel, x, y), reach, isSeen), event);
}
