// Text and elements. Everything of a report comes into the page through `element`, as text.
"use strict";

/** What stands where a report has nothing. */
const nothing = "–";

/** The value where it is a finite number, else null. */
function finite(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** The value where it is a text, else an empty one. */
function textOf(value) {
  return typeof value === "string" ? value : "";
}

/** The value where it is an object (no array), else an empty one. */
function objectOf(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) ? value : {};
}

/** The value where it is an array, else an empty one. */
function arrayOf(value) {
  return Array.isArray(value) ? value : [];
}

/**
 * A new element. Attributes that are functions become listeners ("click"), true and false add the
 * attribute or leave it out. Children that are no nodes become text.
 */
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function svgElement(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function")
      made.addEventListener(name, value);
    else if (value === true)
      made.setAttribute(name, "");
    else if (value !== false && value !== null)
      made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** A number with so many significant digits, plain: "0.0123", "12.3", "12 345". */
function digits(value, significant = 3) {
  if (value === null) return nothing;
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(value)));
  if (size < -4 || size > 14) return value.toExponential(significant - 1);
  const text = value.toFixed(Math.max(0, significant - 1 - size));
  const [whole, fraction] = text.split(".");
  const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, "\u202f") : whole;
  return fraction === undefined ? grouped : grouped + "." + fraction;
}

/** A time in the unit that suits it. */
function duration(ns) {
  if (ns === null) return nothing;
  if (ns < 1e3) return digits(ns) + " ns";
  if (ns < 1e6) return digits(ns / 1e3) + " µs";
  return ns < 1e9 ? digits(ns / 1e6) + " ms" : digits(ns / 1e9) + " s";
}

/** A share in percent. */
function percent(value, significant = 3) {
  return value === null ? nothing : digits(value, significant) + " %";
}

/** A number with at most so many significant digits, without zeros at its end: "95", "0.05". */
function brief(value, significant = 4) {
  const text = digits(value, significant);
  return text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
}

/** A probability; those that need no number are said to be small. */
function probability(p) {
  return p !== null && p < 1e-4 ? "< 0.0001" : digits(p, 2);
}

/** A time of day as in a report, for people. */
function dateText(text) {
  return textOf(text).replace(/^(\d{4}-\d\d-\d\d)T([\d:]+)Z$/, "$1 $2 UTC");
}

/** A size in binary units. */
function byteSize(bytes) {
  if (bytes === null) return nothing;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit + 1 < units.length; ++unit) bytes /= 1024;
  return `${unit === 0 ? bytes : digits(bytes)} ${units[unit]}`;
}

/** A text of at most so many characters, its middle left out where it is longer. */
function shortened(text, length) {
  const characters = Array.from(text);
  if (characters.length <= length) return text;
  const half = Math.floor((length - 1) / 2);
  return characters.slice(0, half).join("") + "…" + characters.slice(-half).join("");
}

/**
 * A text that may be long, as a node: its middle is left out, and shown where it is pointed at. It
 * may break after a slash.
 */
function shortNode(text, length) {
  const short = shortened(text, length);
  const pieces = short.split(/(?<=\/)/).flatMap((piece) => [piece, element("wbr")]).slice(0, -1);
  return element("span", {title: short === text ? null : shortened(text, 2000)}, ...pieces);
}

/** Any value of a report as text for people: numbers plain, arrays with commas. */
function plain(value) {
  if (value === null || value === undefined || value === "") return nothing;
  if (typeof value === "number") {
    return Number.isInteger(value) ? String(value) : brief(value);
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length ? value.map(plain).join(", ") : nothing;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** "1 row", "2 rows". */
function counted(count, one, many = one + "s") {
  return `${count} ${count === 1 ? one : many}`;
}

/** A list of names and values; entries are [name, value], values nodes or anything for `plain`. */
function factList(entries) {
  return element(
      "dl", {class: "facts"},
      ...entries.map(
          ([name, value]) => element(
              "div", {}, element("dt", {}, name),
              element("dd", {}, value instanceof Node ? value : plain(value)))));
}

/** The value below which the share `q` of the sorted numbers lies, between neighbours in line. */
function quantile(sorted, q) {
  if (sorted.length === 0) return null;
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** The median of numbers in any order; null of none. */
function medianOf(numbers) {
  return quantile([...numbers].sort((a, b) => a - b), 0.5);
}

/** The geometric mean of positive numbers; null of none. */
function geometricMean(numbers) {
  if (numbers.length === 0) return null;
  return Math.exp(numbers.reduce((sum, number) => sum + Math.log(number), 0) / numbers.length);
}
