// Names of labels on a panel, in layers that follow the zoom: the first has the places that the printed picture has, each
// further one those of parts in which a label leads. A name stays where it is while the view moves: parts are counted in
// tiles that lie fixed in the plane.
const LAYERS = 12, PART_PX = 90, TILE_PARTS = 16, APART_PX = 260, LEAD = 0.5, PART_POINTS = 3;
let showNames = true, tiles = new WeakMap();
const forgetNames = () => { tiles = new WeakMap(); };

// Rows without a value, and those of rare values together, have no name.
const isNamed = (labels, code) => code < labels.named && !labels.hidden.has(code);

// The names in and around the view, those of upper layers first, as [x, y, code].
function namesInSight(panel, level, labels) {
  const ratio = devicePixelRatio || 1, { left, low } = panel.start;
  const given = labels === colourings[0] && data.labelled ? panel.spots : null;
  const placed = given ? given.map((spot, code) => spot && [...spot, code]).filter((spot) => spot && isNamed(labels, spot[2])) : [];
  const margin = APART_PX * ratio;
  for (let layer = given ? 1 : 0; layer <= level; layer++) {
    const scale = panel.homeScale * 2 ** layer, side = (TILE_PARTS * PART_PX * ratio) / scale;
    const [x0, y0] = toData(panel, -margin, panel.canvas.height + margin), [x1, y1] = toData(panel, panel.canvas.width + margin, -margin);
    const bounds = gridOf(panel).bounds, tile = (at, start) => Math.floor((at - start) / side);
    const layerSpots = [];
    for (let ty = tile(Math.max(y0, bounds.low), low); ty <= tile(Math.min(y1, bounds.high), low); ty++) {
      for (let tx = tile(Math.max(x0, bounds.left), left); tx <= tile(Math.min(x1, bounds.right), left); tx++) {
        layerSpots.push(...tileOf(panel, labels, `${layer} ${tx} ${ty}`, [left + tx * side, low + ty * side, side]));
      }
    }
    layerSpots.sort((a, b) => b[3] - a[3] || a[2] - b[2] || a[0] - b[0]);
    for (const [x, y, code] of layerSpots) {
      const isNear = (other) => other[2] === code && Math.hypot(other[0] - x, other[1] - y) * scale < APART_PX * ratio;
      if (!placed.some(isNear)) placed.push([x, y, code]);
    }
  }
  return placed;
}

function tileOf(panel, labels, key, square) {
  let known = tiles.get(panel);
  if (!known) tiles.set(panel, known = new Map());
  if (!known.has(key)) known.set(key, leadingParts(panel, labels, square));
  return known.get(key);
}

// The middles of a label's points in parts of a tile where it has most of all shown points, with their number.
function leadingParts(panel, labels, [left, low, side]) {
  const kinds = labels.names.length, parts = TILE_PARTS * TILE_PARTS, xy = panel.xy;
  const counts = new Uint32Array(parts * kinds), all = new Uint32Array(parts), sums = new Float64Array(2 * parts * kinds);
  gridOf(panel).within(left, low, left + side, low + side, (row) => {
    if (states[row] === HIDDEN) return;
    const x = xy[2 * row], y = xy[2 * row + 1];
    const column = Math.floor(((x - left) / side) * TILE_PARTS), line = Math.floor(((y - low) / side) * TILE_PARTS);
    if (column < 0 || line < 0 || column >= TILE_PARTS || line >= TILE_PARTS) return;
    const part = line * TILE_PARTS + column, at = part * kinds + labels.codes[row];
    all[part]++;
    counts[at]++;
    sums[2 * at] += x;
    sums[2 * at + 1] += y;
  });
  const spots = [];
  for (let at = 0; at < counts.length; at++) {
    const count = counts[at], code = at % kinds;
    if (count >= PART_POINTS && count > LEAD * all[(at - code) / kinds] && isNamed(labels, code)) {
      spots.push([sums[2 * at] / count, sums[2 * at + 1] / count, code, count]);
    }
  }
  return spots;
}

function drawNames(panel, context, ratio, rim) {
  const labels = named();
  if (!labels || labels.names.length < 2) return;
  const level = Math.max(0, Math.min(LAYERS, Math.floor(Math.log2(panel.view.scale / panel.homeScale) + 1e-6)));
  const taken = [];
  panel.drawnNames = [];
  Object.assign(context, { textBaseline: "middle", textAlign: "left", lineJoin: "round", strokeStyle: rim });
  for (const [dataX, dataY, code] of namesInSight(panel, level, labels)) {
    const [x, y] = toScreen(panel, dataX, dataY);
    if (x < -99 || y < -99 || x > panel.canvas.width + 99 || y > panel.canvas.height + 99) continue;
    const pieces = labels.short[code], alone = pieces.length === 1 && pieces[0].emoji;
    const height = (alone ? 24 : 14) * ratio;
    context.font = `600 ${height}px system-ui, "DejaVu Sans", sans-serif`;
    const widths = pieces.map((piece) => (piece.emoji ? height * 1.15 : context.measureText(piece.text).width));
    const width = widths.reduce((a, b) => a + b, 0);
    // A name at the edge moves inwards while its place is in sight.
    const inside = (at, half, most) => (at < 0 || at > most || 2 * half > most ? at : Math.max(half, Math.min(most - half, at)));
    const [middle, base] = [inside(x, width / 2 + 3 * ratio, panel.canvas.width), inside(y, height * 0.65, panel.canvas.height)];
    const box = [middle - width / 2, base - height * 0.65, middle + width / 2, base + height * 0.65];
    if (width > 260 * ratio || taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
    taken.push(box);
    panel.drawnNames.push(labels.names[code]);
    const [colour] = labels.styles[code], inked = dark ? shade(data.palette[colour]) : data.inks[colour];
    drawName(context, pieces, widths, [box[0], base, height], [ratio, inked, rim]);
  }
}

function drawName(context, pieces, widths, [left, y, height], [ratio, ink, rim]) {
  context.fillStyle = ink;
  let at = left;
  pieces.forEach((piece, i) => {
    if (piece.emoji) {
      Object.assign(context, { globalAlpha: 0.85, fillStyle: rim });
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
}
