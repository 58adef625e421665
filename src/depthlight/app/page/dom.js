// Small helpers round the document. Text from outside only ever becomes text: nothing here writes HTML.

export const byId = (id) => document.getElementById(id);

/** A new element with properties and children: make("li", { className: "error" }, "text", element). */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Offer bytes as a download. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A canvas of this size with its pen. */
export function canvas(width, height) {
  const sheet = make("canvas", { width, height });
  return [sheet, sheet.getContext("2d", { willReadFrequently: true })];
}

/** 1234567 → "1.2 MB". */
export function size(bytes) {
  const [divisor, unit] = bytes < 1e6 ? [1e3, "kB"] : [1e6, "MB"];
  return `${(bytes / divisor).toFixed(1)} ${unit}`;
}
