// SECURITY: the only way in which these pages make elements. What is shown is set as text and never read as markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes of ours, and children: elements, or text of anybody. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null).map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return made;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit++) count /= 1024;
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export function milliseconds(count) {
  return count < 10 ? `${count.toFixed(1)} ms` : count < 1000 ? `${Math.round(count)} ms` : `${(count / 1000).toFixed(2)} s`;
}

/** A click on it saves the bytes under a name. */
export function saveAs(blob, name) {
  // SECURITY: as bytes of no type, whatever they are: a blob has this page's origin, and none may become a page of it.
  const url = URL.createObjectURL(new Blob([blob], { type: "application/octet-stream" }));
  element("a", { href: url, download: name.split("/").pop() }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
