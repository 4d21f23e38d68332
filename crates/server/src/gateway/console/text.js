// Text into the page. Whatever an agent or a caller wrote goes in as text and never as markup, and with every character
// spelled out that moves, hides or reverses what stands around it.

/** Controls, format characters (bidirectional ones among them), separators of lines, halves of characters. */
const TREACHEROUS = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

const spelled = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;

/** A text of one line. */
export const plain = (text) => String(text).replace(TREACHEROUS, spelled);

/** A text that may have lines and tabs. */
export const lines = (text) =>
  String(text)
    .replaceAll("\r\n", "\n")
    .replace(TREACHEROUS, (found) => (found === "\n" || found === "\t" ? found : spelled(found)));

export const byId = (id) => document.getElementById(id);

/** An element; of its children, those that are texts go in as such. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : plain(child))));
  return made;
}

/** A link to a view of this page. */
export const link = (parts, text, attributes = {}) =>
  element("a", { href: `#/${parts.map(encodeURIComponent).join("/")}`, ...attributes }, text);

/** A row of a table. On a narrow screen its cells stand below each other, each behind its label. */
export const row = (cells) =>
  element(
    "tr",
    { role: "row" },
    ...cells.map(([label, content]) => element("td", { role: "cell", "data-label": label }, content)),
  );

/** Names and values, those left out that are not known. */
export function describe(list, facts) {
  const known = facts.filter(([, value]) => value !== undefined && value !== "");
  list.replaceChildren(
    ...known.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
}

const SYMBOLS = { running: "●", finished: "✓", verdict: "!", failed: "✕", granted: "✓", denied: "✕" };

/** A word that is told by its colour as well, and never by that alone. */
export const badge = (kind, text = kind) =>
  element(
    "span",
    { class: `badge ${kind}` },
    element("span", { "aria-hidden": "true" }, SYMBOLS[kind] ?? "·"),
    text,
  );

/** An agent that ran to its end has ended well, or has a verdict of its own. */
export const exit = (code, text) => badge(code === 0 ? "finished" : "verdict", text ?? `exit code ${code}`);

const WHEN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const NUMBER = new Intl.NumberFormat();

/** A time, as milliseconds or in RFC 3339. */
export function time(value, form = WHEN) {
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return "?";
  return element("time", { datetime: date.toISOString() }, form.format(date));
}

export const clock = (value) => time(value, CLOCK);

export const number = (value) => (value === undefined ? undefined : NUMBER.format(value));

export const chunks = (count) => (count === 1 ? "one chunk" : `${number(count)} chunks`);

export function bytes(count) {
  if (count === undefined) return undefined;
  const units = ["bytes", "KB", "MB", "GB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${NUMBER.format(Math.round(count * 10) / 10)} ${units[unit]}`;
}

export function duration(microseconds) {
  if (microseconds === undefined) return undefined;
  if (microseconds < 1000) return `${microseconds} µs`;
  if (microseconds < 1_000_000) return `${NUMBER.format(Math.round(microseconds / 100) / 10)} ms`;
  return `${NUMBER.format(Math.round(microseconds / 100_000) / 10)} s`;
}

/** A digest, of which the beginning is enough to see whether it is another one. */
export const digest = (text) => element("code", { class: "digest", title: plain(text) }, `${text.slice(0, 19)}…`);
