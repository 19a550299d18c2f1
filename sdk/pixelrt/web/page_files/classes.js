// The legend: each class with its share of the picture, and whether it is drawn.

import { Rows, byId, element, setAttribute, setText } from "/assets/dom.js";
import { share } from "/assets/text.js";

const LEAST = 0.0005; // what is shown as more than 0 %

export class Classes {
  // `changed` is called when another set of classes is to be drawn
  constructor(changed) {
    this.hidden = new Set(); // of names; null is "unknown"
    this.changed = changed;
    this.items = [];
    this.rows = new Rows(byId("classes"), (item) => this.row(item));
    this.all = byId("classes-all");
    this.all.addEventListener("click", () => this.toggleAll());
  }

  // `items`: [{ name (null: unknown), color, share }]
  show(items) {
    this.items = items;
    this.rows.show(items, ({ name }) => name, (row, item) => this.change(row, item));
    this.all.hidden = items.length < 2;
    setText(this.all, items.some(({ name }) => !this.hidden.has(name)) ? "Hide all" : "Show all");
  }

  row({ name, color }) {
    const box = element("input", { type: "checkbox" });
    box.addEventListener("change", () => this.toggle(name, box.checked));
    const swatch = element("span", { class: name === null ? "swatch unknown" : "swatch", "aria-hidden": "true" });
    if (color) swatch.style.backgroundColor = `rgb(${color.join(" ")})`;
    const bar = element("span", { class: "bar", "aria-hidden": "true" }, element("span"));
    const label = element("label", {}, box, swatch, element("span", { class: "label" }, name ?? "unknown"), bar);
    return element("li", {}, label, element("span", { class: "share" }));
  }

  change(row, item) {
    const box = row.querySelector("input");
    box.checked = !this.hidden.has(item.name);
    row.querySelector(".bar > span").style.inlineSize = `${(100 * (item.share ?? 0)).toFixed(1)}%`;
    setText(row.querySelector(".share"), item.share === null ? "\u2013" : share(item.share));
    setAttribute(row, "class", (item.share ?? 0) >= LEAST ? "" : "absent");
  }

  toggle(name, shown) {
    if (shown) this.hidden.delete(name);
    else this.hidden.add(name);
    this.show(this.items);
    this.changed();
  }

  toggleAll() {
    const hide = this.items.some(({ name }) => !this.hidden.has(name));
    for (const { name } of this.items) {
      if (hide) this.hidden.add(name);
      else this.hidden.delete(name);
    }
    this.show(this.items);
    this.changed();
  }
}
