// Health, frames and stages, as the robot tells them.

import { Rows, byId, element, icon, setAttribute, setIcon, setText } from "/assets/dom.js";
import { clock, count, duration, milliseconds, rate, share } from "/assets/text.js";

export const STATES = {
  ok: "All well",
  overloaded: "Overloaded",
  stalled: "Stalled",
  reconnecting: "Reconnecting",
  failed: "Failed",
  ended: "Ended",
};

const DROPPED = {
  newer: "replaced by a newer frame",
  deadline: "too old",
  consumer: "program too slow",
  failed: "network gave no result",
  stopped: "on the way at the end",
};
const LOST = {
  replaced: "nobody took it in time",
  driver: "no buffer in the kernel",
  damaged: "damaged data",
  unkeyed: "before the first keyframe",
  early: "at the start",
  unread: "at the end",
};

export function stateWord(state) {
  return STATES[state] ?? state;
}

export function since(health) {
  return `since ${clock(health.for_s)}, ${duration(health.for_s)}`;
}

export class Panels {
  constructor() {
    this.states = new Rows(byId("states"), () =>
      element(
        "li",
        {},
        icon("ok"),
        element("span", { class: "label" }),
        element("span", { class: "word" }),
        element("span", { class: "why" }),
      ),
    );
    this.frames = new Rows(byId("frames").tBodies[0], () =>
      element("tr", {}, element("th", { scope: "row" }), element("td"), element("td")),
    );
    this.stages = new Rows(byId("stages").tBodies[0], () =>
      element("tr", {}, element("th", { scope: "row" }), element("td"), element("td"), element("td")),
    );
  }

  // `cameras`: those that are shown
  show(told, cameras) {
    const known = told.cameras.filter(({ numbers }) => numbers);
    this.showStates(known, told.sinks);
    const shown = cameras.map(({ numbers }) => numbers).filter(Boolean);
    byId("frames-panel").hidden = !shown.length;
    if (shown.length) this.frames.show([...frameRows(shown), ...sinkRows(told.sinks)], ([name]) => name, fill);
    const stages = Object.entries(told.stages);
    byId("stages-panel").hidden = !stages.length;
    this.stages.show(stages, ([name]) => name, (row, [name, { p50_ms, p95_ms, p99_ms }]) =>
      fill(row, [name, ...[p50_ms, p95_ms, p99_ms].map(milliseconds)]),
    );
  }

  showStates(cameras, sinks) {
    const failed = sinks.filter((sink) => sink.failed);
    const rows = [
      ...cameras.map(({ name, numbers: { health } }) => ({
        key: `camera ${name}`,
        name,
        state: health.state,
        word: `${stateWord(health.state)}, ${since(health)}`,
        why: health.why,
      })),
      ...failed.map((sink) => ({
        key: `sink ${sink.name}`, // it may have the name of a camera
        name: sink.name,
        state: "failed",
        word: "Takes no more",
        why: sink.failed,
      })),
    ];
    byId("health-panel").hidden = rows.length < 2; // one camera: the header says it
    this.states.show(rows, ({ key }) => key, (row, { name, state, word, why }) => {
      const [mark, label, told, reason] = row.children;
      setIcon(mark, state in STATES ? state : "failed");
      setAttribute(row, "data-state", state);
      setText(label, name);
      setText(told, word);
      setText(reason, why);
      reason.hidden = !why;
    });
  }
}

function fill(row, texts) {
  texts.forEach((text, index) => setText(row.children[index], text));
}

function frameRows(cameras) {
  const sum = (pick) => cameras.reduce((total, camera) => total + pick(camera), 0);
  const captured = sum((camera) => camera.captured);
  const ofCaptured = (frames) => (captured ? share(frames / captured) : "\u2013");
  const rows = [
    ["Captured", count(captured), `${rate(sum((camera) => camera.fps_captured))} fps`],
    ["Delivered", count(sum((camera) => camera.delivered)), `${rate(sum((camera) => camera.fps_delivered))} fps`],
  ];
  for (const [reason, frames] of byReason(cameras, "dropped")) {
    rows.push([`Dropped, ${DROPPED[reason] ?? reason}`, count(frames), ofCaptured(frames)]);
  }
  for (const [reason, frames] of byReason(cameras, "lost")) {
    rows.push([`Lost by the source, ${LOST[reason] ?? reason}`, count(frames), ""]);
  }
  const reconnects = sum((camera) => camera.reconnects);
  if (reconnects) rows.push(["Connected again", count(reconnects), ""]);
  return rows;
}

function sinkRows(sinks) {
  return sinks.map(({ name, written, dropped }) => [
    `Written to ${name}`,
    count(written),
    dropped ? `${count(dropped)} left out` : "",
  ]);
}

function byReason(cameras, kind) {
  const total = new Map();
  for (const camera of cameras) {
    for (const [reason, frames] of Object.entries(camera[kind])) {
      total.set(reason, (total.get(reason) ?? 0) + frames);
    }
  }
  return total;
}
