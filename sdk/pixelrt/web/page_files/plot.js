// A quantity over the last minute, as lines.

import { setAttribute, shape } from "/assets/dom.js";

const SPAN_S = 60;
const LEFT = 40;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 22;

export class Plot {
  constructor(svg, { unit, least }) {
    this.svg = svg;
    this.unit = unit;
    this.least = least;
    this.top = least;
    this.lines = [];
    this.pointed = null; // seconds ago
    new ResizeObserver(() => this.draw()).observe(svg);
    svg.addEventListener("pointermove", (event) => this.point(event));
    svg.addEventListener("pointerleave", () => this.point(null));
  }

  // `lines`: [{ points: [[seconds ago, value or null], ...], kind }]
  show(lines) {
    this.lines = lines;
    this.draw();
  }

  draw() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (width < LEFT + RIGHT + 20 || height < TOP + BOTTOM + 20) return;
    this.size = { width, height };
    this.rescale();
    setAttribute(this.svg, "viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...this.grid(), ...this.lines.map((line) => this.line(line)), ...this.cursor());
  }

  point(event) {
    if (!this.size) return;
    const x = event ? event.clientX - this.svg.getBoundingClientRect().left : -1;
    const ago = SPAN_S * (1 - (x - LEFT) / (this.size.width - LEFT - RIGHT));
    this.pointed = ago >= 0 && ago <= SPAN_S ? ago : null;
    this.draw();
  }

  // The values where the pointer is; those of cameras that are not emphasised are left out.
  cursor() {
    if (this.pointed === null) return [];
    const found = this.lines
      .filter(({ kind }) => kind !== "other")
      .map(({ points, kind }) => ({ kind, point: nearest(points, this.pointed) }))
      .filter(({ point }) => point !== null && point[1] !== null);
    if (!found.length) return [];
    const x = this.x(found[0].point[0]);
    const left = x < this.size.width / 2;
    const values = found.map(({ point: [, value] }) => `${value.toFixed(1)} ${this.unit}`);
    const text = values.reverse().join(" \u00b7 "); // the first line is drawn last
    return [
      shape("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: this.size.height - BOTTOM }),
      ...found.map(({ kind, point }) => shape("circle", { class: `dot ${kind}`, cx: x, cy: this.y(point[1]), r: 3 })),
      shape(
        "text",
        { class: "read", x: left ? x + 8 : x - 8, y: this.size.height - BOTTOM - 8, "text-anchor": left ? "start" : "end" },
        text,
      ),
    ];
  }

  // Grows at once, and shrinks only where it has become much too large: a scale that moves tells nothing.
  rescale() {
    const values = this.lines.flatMap(({ points }) => points.map(([, value]) => value ?? 0));
    const wanted = nice(Math.max(this.least, 1.08 * Math.max(0, ...values)));
    if (wanted > this.top || wanted < 0.6 * this.top) this.top = wanted;
  }

  x(ago) {
    return LEFT + (1 - ago / SPAN_S) * (this.size.width - LEFT - RIGHT);
  }

  y(value) {
    return TOP + (1 - value / this.top) * (this.size.height - TOP - BOTTOM);
  }

  grid() {
    const { width, height } = this.size;
    const marks = [0, 0.5, 1].map((part) => part * this.top);
    const rows = marks.flatMap((value) => {
      const y = Math.round(this.y(value)) + 0.5;
      return [
        shape("line", { class: value ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }),
        shape("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, label(value)),
      ];
    });
    const times = [60, 40, 20, 0].map((ago) => {
      const anchor = { 60: "start", 0: "end" }[ago] ?? "middle";
      return shape("text", { x: this.x(ago), y: height - 5, "text-anchor": anchor }, ago ? `\u2212${ago} s` : "now");
    });
    return [...rows, ...times];
  }

  line({ points, kind }) {
    let path = "";
    let pen = false;
    for (const [ago, value] of points) {
      if (value === null || ago > SPAN_S) {
        pen = false;
        continue;
      }
      path += `${pen ? "L" : "M"}${this.x(Math.max(ago, 0)).toFixed(1)} ${this.y(value).toFixed(1)}`;
      pen = true;
    }
    return shape("path", { class: `line ${kind}`, d: path });
  }
}

function nearest(points, ago) {
  const distance = (point) => Math.abs(point[0] - ago);
  const found = points.reduce((best, point) => (best && distance(best) <= distance(point) ? best : point), null);
  return found && distance(found) < 2 ? found : null;
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].find((part) => part * power >= value * 0.999);
  return step * power;
}

function label(value) {
  return String(Number(value.toPrecision(3)));
}
