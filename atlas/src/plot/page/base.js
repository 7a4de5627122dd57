// What all parts of the page use: the data block and its columns, elements, texts folded for search.
// Texts reach the page only as text nodes.
"use strict";
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const n = data.rows;

const bytes = (base64) => {
  const raw = atob(base64), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
};
const make = (tag, props = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
};
const counted = (number, noun) => `${number.toLocaleString("en")}${noun ? ` ${noun}${number === 1 ? "" : "s"}` : ""}`;
const hex = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
// Characters that change the direction of the text around them, or that no font shows.
const tidy = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
const isTyping = (element) => element instanceof HTMLInputElement || element instanceof HTMLSelectElement;

// Case and accents folded: `corazon` finds `Corazón`. Marks of scripts in which they are letters stay.
const fold = (text) => (/^[\x00-\x7f]*$/.test(text) ? text.toLowerCase()
  : text.toLowerCase().normalize("NFD").replace(/[\u0300-\u036f]/g, "").replace(/ς/g, "σ"));

// A column in the encoding that it came in. `at` is the text of a row, `folded` the same for search.
function makeColumn(raw) {
  const column = { name: tidy(raw.name) };
  if (raw.integers) {
    const integers = new Int32Array(bytes(raw.integers).buffer);
    Object.assign(column, { at: (row) => String(integers[row]), folded: (row) => String(integers[row]), keys: () => integers });
  } else if (raw.dictionary) {
    const codes = new Uint16Array(bytes(raw.codes).buffer);
    let folds;
    column.at = (row) => raw.dictionary[codes[row]];
    column.folded = (row) => (folds ??= raw.dictionary.map(fold))[codes[row]];
    column.keys = () => {
      const keys = sortKeys(raw.dictionary);
      const ranks = [...keys.keys()].sort((a, b) => compare(keys[a], keys[b]));
      const rank = new Uint32Array(ranks.length);
      ranks.forEach((code, place) => { rank[code] = place && compare(keys[ranks[place - 1]], keys[code]) === 0 ? rank[ranks[place - 1]] : place; });
      return Uint32Array.from(codes, (code) => rank[code]);
    };
  } else {
    const folds = new Array(n);
    column.at = (row) => raw.texts[row];
    column.folded = (row) => (folds[row] ??= fold(raw.texts[row]));
    column.keys = () => sortKeys(raw.texts, column.folded);
  }
  return column;
}

// Numbers where all values are numbers (missing ones last), folded texts elsewhere.
const NUMBER = /^\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*$/i;
function sortKeys(values, folded) {
  const isNumeric = values.every((value) => value === "" || NUMBER.test(value) || /^(nan|-?inf(inity)?)$/i.test(value));
  if (!isNumeric) return folded ? Array.from(values, (_, row) => folded(row)) : values.map(fold);
  return Float64Array.from(values, (value) => (NUMBER.test(value) ? Number(value) : NaN));
}
function compare(a, b) {
  if (a === b) return 0;
  if (typeof a === "number" && (Number.isNaN(a) || Number.isNaN(b))) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a < b ? -1 : 1;
}

const columns = data.columns.map(makeColumn);
// The column of texts, which are searched; absent where the page has no room for it.
const texts = data.hasText ? columns[0] : null;

// Where a folded text has the wanted one, as ranges of the text itself: folding changes lengths.
function hitsOf(text, wanted) {
  const starts = [];
  let folded = "", at = 0;
  for (const char of text) {
    const part = fold(char);
    for (let i = 0; i < part.length; i++) starts.push(at);
    folded += part;
    at += char.length;
  }
  starts.push(at);
  const ranges = [];
  for (let from = folded.indexOf(wanted); wanted && from >= 0; from = folded.indexOf(wanted, from + wanted.length)) {
    let end = from + wanted.length;
    while (end < folded.length && starts[end] === starts[end - 1]) end++;
    let last = starts[end];
    // Marks that follow their letter and were folded away belong to it.
    while (/^[\u0300-\u036f]/.test(text.slice(last))) last++;
    ranges.push([starts[from], last]);
  }
  return ranges;
}

// A text as nodes, with its hits marked.
function marked(text, wanted) {
  if (!wanted) return [tidy(text)];
  const parts = [];
  let from = 0;
  for (const [start, end] of hitsOf(text, wanted)) {
    parts.push(tidy(text.slice(from, start)), make("mark", { textContent: tidy(text.slice(start, end)) }));
    from = end;
  }
  return [...parts, tidy(text.slice(from))];
}
