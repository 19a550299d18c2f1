// The pace of the cameras over the last minute.

import { byId, element, setAttribute } from "/assets/dom.js";
import { Plot } from "/assets/plot.js";
import { extreme, milliseconds, rate } from "/assets/text.js";

const KEPT_S = 62;
const NOTHING = [null, null, null, null];
const TELL_EVERY = 4; // of the numbers: a screen reader that stands on a plot is not to be interrupted

export class Charts {
  constructor() {
    this.latency = new Plot(byId("latency"), { unit: "ms", least: 20 });
    this.rate = new Plot(byId("rate"), { unit: "fps", least: 5 });
    this.pasts = new Map();
    this.turn = 0;
  }

  // What was before this page was opened.
  remember(cameras) {
    const now = performance.now() / 1000;
    for (const { id, history } of cameras) {
      this.pasts.set(id, history.map(([ago, ...values]) => [now - ago, ...values]));
    }
  }

  add(cameras) {
    const now = performance.now() / 1000;
    for (const { id, pace } of cameras) {
      if (!pace) continue;
      const past = this.pasts.get(id) ?? [];
      past.push([now - pace[0], ...pace.slice(1)]);
      while (past.length && now - past[0][0] > KEPT_S) past.shift();
      this.pasts.set(id, past);
    }
  }

  // `cameras`: those that are shown, by number and name
  show(cameras) {
    const now = performance.now() / 1000;
    const series = cameras.map(({ id, name, numbers }) => ({
      name,
      past: this.pasts.get(id) ?? [],
      hasEnded: numbers?.health.state === "ended",
    }));
    const points = (past, index) => past.map((sample) => [now - sample[0], sample[index]]);
    if (series.length === 1) {
      const [{ past }] = series;
      this.latency.show([
        { points: points(past, 3), kind: "second" },
        { points: points(past, 2), kind: "first" },
      ]);
      this.rate.show([{ points: points(past, 1), kind: "first" }]);
    } else {
      this.latency.show(emphasised(series, 3, Math.max, points));
      this.rate.show(emphasised(series, 1, Math.min, points));
    }
    this.read(series);
  }

  read(series) {
    const last = series.map((camera) => [camera.name, ...newest(camera)]);
    const one = last.length === 1;
    const [slowest, p99] = worst(last, 4, Math.max);
    const [rarest, fps] = worst(last, 2, Math.min);
    const latency = one
      ? [["first", "p50", `${milliseconds(last[0][3])} ms`], ["second", "p99", `${milliseconds(last[0][4])} ms`]]
      : [["first", `highest p99: ${slowest}`, `${milliseconds(p99)} ms`]];
    readings(byId("latency-readings"), latency);
    readings(byId("rate-readings"), [["first", one ? "now" : `lowest: ${rarest}`, `${rate(fps)} fps`]]);
    if (this.turn++ % TELL_EVERY === 0) {
      setAttribute(byId("latency"), "aria-label", spoken("Latency", latency, series, 3, "ms", milliseconds));
      const told = [["", one ? "now" : `lowest, ${rarest}`, `${rate(fps)} fps`]];
      setAttribute(byId("rate"), "aria-label", spoken("Frame rate", told, series, 1, "fps", rate));
    }
  }
}

function emphasised(series, index, pick, points) {
  const last = series.map((camera, number) => [number, ...newest(camera)]);
  const [chosen] = worst(last, index + 1, pick);
  return series
    .map(({ past }, number) => ({ points: points(past, index), kind: number === chosen ? "first" : "other" }))
    .sort((a, b) => (a.kind === "first") - (b.kind === "first"));
}

// Of a camera that has ended there is none: it is not the slowest one.
function newest({ past, hasEnded }) {
  return hasEnded ? NOTHING : (past.at(-1) ?? NOTHING);
}

// The key and the value of the entry that is worst in a column.
function worst(entries, column, pick) {
  const value = extreme(entries.map((entry) => entry[column]), pick);
  const found = entries.find((entry) => value !== null && entry[column] === value);
  return [found ? found[0] : "\u2013", value];
}

function readings(list, entries) {
  const wanted = entries.flat().join("|");
  if (list.dataset.shown === wanted) return;
  list.dataset.shown = wanted;
  list.replaceChildren(
    ...entries.map(([kind, name, value]) =>
      element("div", { class: kind }, element("dt", {}, name), element("dd", {}, value)),
    ),
  );
}

function spoken(what, entries, series, index, unit, text) {
  const values = series.flatMap(({ past }) => past.map((sample) => sample[index]));
  const low = extreme(values, Math.min);
  if (low === null) return `${what}: nothing was delivered in the last minute`;
  const now = entries.map(([, name, value]) => `${name} ${value}`).join(", ");
  const range = `${text(low)} to ${text(extreme(values, Math.max))} ${unit}`;
  return `${what}: ${now}. Over the last minute ${range}`;
}
