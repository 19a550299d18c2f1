// Small helpers. Text is always text: nothing here reads HTML.

export function byId(id) {
  return document.getElementById(id);
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Writes only what differs, so that a screen reader and the layout are left in peace.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

const SVG = "http://www.w3.org/2000/svg";

export function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function icon(name) {
  return shape("svg", { class: "icon", "aria-hidden": "true" }, shape("use", { href: `#icon-${name}` }));
}

export function setIcon(svg, name) {
  setAttribute(svg.querySelector("use"), "href", `#icon-${name}`);
}

// Rows of a table or list by key: made once, changed afterwards, in the order of `items`.
export class Rows {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.rows = new Map();
  }

  show(items, keyOf, change) {
    const keys = items.map(keyOf);
    for (const [key, row] of this.rows) {
      if (!keys.includes(key)) {
        row.remove();
        this.rows.delete(key);
      }
    }
    items.forEach((item, index) => {
      let row = this.rows.get(keys[index]);
      if (!row) {
        row = this.make(item);
        this.rows.set(keys[index], row);
      }
      if (this.parent.children[index] !== row) this.parent.insertBefore(row, this.parent.children[index] ?? null);
      change(row, item);
    });
  }
}
