// The meaning of colours: a column's categories or its numbers on a ramp, on a light page or on a dark one.
const NO_SHARE = 65535;
const colourings = data.colourings.map((raw) => (raw.kind === "names"
  ? { ...raw, codes: new Uint16Array(bytes(raw.codes).buffer), hidden: new Set() }
  : { ...raw, shares: new Uint16Array(bytes(raw.shares).buffer) }));
let colouring = data.labelled ? colourings[0] : null;
let dark = matchMedia("(prefers-color-scheme: dark)").matches;
const named = () => (colouring?.kind === "names" ? colouring : null);
const shade = ([light, onDark]) => (dark ? onDark : light);

const lookOf = (labels, code) => [...hex(shade(data.palette[labels.styles[code][0]])), labels.styles[code][1]];
const ramp = () => shade(data.ramp);
const missing = () => hex(shade(data.missing));

function rampColour(share) {
  const place = share * (ramp().length - 1), low = Math.min(Math.floor(place), ramp().length - 2);
  return ramp()[low].map((channel, i) => Math.round(channel + (ramp()[low + 1][i] - channel) * (place - low)));
}

// Colour and shape of every row, four bytes each.
function looks() {
  const pack = ([r, g, b, shape]) => (r | (g << 8) | (b << 16) | (shape << 24)) >>> 0;
  const all = new Uint32Array(n);
  if (!colouring) {
    all.fill(pack([...hex(shade(data.palette[0])), 0]));
  } else if (colouring.kind === "names") {
    const styles = colouring.names.map((_, code) => pack(lookOf(colouring, code)));
    for (let row = 0; row < n; row++) all[row] = styles[colouring.codes[row]];
  } else {
    const steps = Uint32Array.from({ length: 256 }, (_, step) => pack([...rampColour(step / 255), 0]));
    const none = pack([...missing(), 0]);
    for (let row = 0; row < n; row++) {
      const share = colouring.shares[row];
      all[row] = share === NO_SHARE ? none : steps[Math.round((share * 255) / (NO_SHARE - 1))];
    }
  }
  return new Uint8Array(all.buffer);
}

function applyColours() {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  painter.setLooks(looks(), hex(shade(data.faint)));
  fillLegend();
  redraw();
}

// Names with emojis as pictures: no system font is needed for them.
const pictures = new Map();
function picture(key) {
  if (!pictures.has(key)) {
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 36" width="72" height="72">${data.drawings[key]}</svg>`;
    const image = new Image();
    image.onload = redraw;
    image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    pictures.set(key, image);
  }
  return pictures.get(key);
}
const spelled = (pieces) => pieces.map((piece) => piece.text ??
  make("img", { className: "emoji", alt: piece.emoji, src: picture(piece.emoji).src }));
