// A grid over the points of a panel, so that finding near ones looks at a few cells and not at every point.
function makeGrid(xy) {
  const n = xy.length / 2;
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let row = 0; row < n; row++) {
    left = Math.min(left, xy[2 * row]); right = Math.max(right, xy[2 * row]);
    low = Math.min(low, xy[2 * row + 1]); high = Math.max(high, xy[2 * row + 1]);
  }
  if (n === 0) [left, right, low, high] = [0, 1, 0, 1];
  const side = Math.max(1, Math.min(512, Math.round(Math.sqrt(n / 3))));
  const cell = Math.max((right - left) / side, (high - low) / side) || 1;
  const at = (value, start) => Math.max(0, Math.min(side - 1, Math.floor((value - start) / cell)));
  const starts = new Uint32Array(side * side + 1), rows = new Uint32Array(n), cells = new Uint32Array(n);
  for (let row = 0; row < n; row++) {
    cells[row] = at(xy[2 * row + 1], low) * side + at(xy[2 * row], left);
    starts[cells[row] + 1]++;
  }
  for (let i = 0; i < side * side; i++) starts[i + 1] += starts[i];
  const next = starts.slice();
  for (let row = 0; row < n; row++) rows[next[cells[row]]++] = row;
  const within = (x0, y0, x1, y1, visit) => {
    for (let gy = at(y0, low); gy <= at(y1, low); gy++) {
      for (let gx = at(x0, left); gx <= at(x1, left); gx++) {
        for (let i = starts[gy * side + gx]; i < starts[gy * side + gx + 1]; i++) visit(rows[i]);
      }
    }
  };
  // Calls `visit` with every row whose cell is within `reach`, and its squared distance.
  const around = (x, y, reach, visit) => {
    within(x - reach, y - reach, x + reach, y + reach, (row) => {
      const dx = xy[2 * row] - x, dy = xy[2 * row + 1] - y;
      visit(row, dx * dx + dy * dy);
    });
  };
  return {
    bounds: { left, right, low, high },
    // Calls `visit` with the rows of a rectangle, and with some around it.
    within,
    // The nearest row within `reach` that `accepts`, or -1.
    nearest(x, y, reach, accepts) {
      let best = -1, least = reach * reach;
      around(x, y, reach, (row, apart) => { if (apart <= least && accepts(row)) [best, least] = [row, apart]; });
      return best;
    },
    // The number of rows with the very place of another one, itself included.
    atPlaceOf(row) {
      let count = 0;
      around(xy[2 * row], xy[2 * row + 1], 0, (_, apart) => { if (apart === 0) count++; });
      return count;
    },
    // The `k` rows nearest to another one, nearest first.
    neighbours(row, k) {
      const [x, y] = [xy[2 * row], xy[2 * row + 1]];
      for (let reach = cell; ; reach *= 2) {
        const found = [];
        around(x, y, reach, (other, apart) => { if (other !== row && apart <= reach * reach) found.push([apart, other]); });
        if (found.length >= k || reach > 2 * side * cell) {
          return found.sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, k).map(([, other]) => other);
        }
      }
    },
  };
}
