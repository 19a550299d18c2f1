// The page: what is shown of which camera, and how.

import { Charts } from "/assets/charts.js";
import { Classes } from "/assets/classes.js";
import { Connection } from "/assets/connection.js";
import { byId, element, icon, setAttribute, setIcon, setText } from "/assets/dom.js";
import { Panels, STATES, since, stateWord } from "/assets/panels.js";
import { Scene } from "/assets/scene.js";
import { count, milliseconds, share, stamp } from "/assets/text.js";

const LEGEND_MS = 250; // shares that change with every frame cannot be read
const SPOKEN_MS = 3000;
const WAITING = "Waiting for the first picture";
const NO_MORE = ["failed", "ended"]; // of the states: no picture comes any more

class Page {
  constructor() {
    this.cameras = []; // { id, name, classes, confidence, scene, tile, ... }
    this.chosen = null; // the number of a camera; null: all
    this.view = { opacity: 0.5, threshold: 0 };
    this.isFrozen = false;
    this.told = null;
    this.dirty = new Set();
    this.lastLegendMs = -LEGEND_MS;
    this.classes = new Classes(() => this.redraw());
    this.charts = new Charts();
    this.panels = new Panels();
    this.connection = new Connection({
      hello: (told) => this.hello(told),
      numbers: (told) => this.numbers(told),
      picture: (header, parts) => this.picture(header, parts),
      state: (text, isOver) => this.connected(text, isOver),
    });
    this.wire();
  }

  wire() {
    const { view } = this;
    byId("opacity").addEventListener("input", ({ target }) => {
      view.opacity = target.value / 100;
      showValue(target, `${target.value} %`);
      this.redraw();
    });
    byId("threshold").addEventListener("input", ({ target }) => {
      view.threshold = Number(target.value);
      showValue(target, view.threshold ? `${view.threshold} %` : "off");
      this.redraw();
    });
    for (const id of ["opacity", "threshold"]) byId(id).dispatchEvent(new Event("input")); // as the browser kept them
    byId("freeze").addEventListener("click", () => this.freeze(!this.isFrozen));
    byId("snapshot").addEventListener("click", () => this.snapshot());
    byId("whole").addEventListener("click", () => this.fullScreen());
    byId("whole").hidden = !document.fullscreenEnabled;
    document.addEventListener("visibilitychange", () => this.watch());
  }

  // --- from the robot

  hello(told) {
    if (this.version && this.version !== told.version) {
      location.reload(); // the robot has another version of this page now
      return;
    }
    this.version = told.version;
    setText(byId("title"), told.title);
    document.title = told.title;
    this.charts.remember(told.cameras);
    const chosen = this.cameras[this.chosen]?.name;
    this.cameras = told.cameras.map((camera) => this.camera(camera));
    byId("pictures").replaceChildren(...this.cameras.map(({ tile }) => tile));
    if (!this.cameras.length) byId("pictures").append(this.empty());
    this.selector();
    const found = this.cameras.find(({ name }) => name === chosen);
    this.choose(this.cameras.length === 1 ? 0 : (found?.id ?? null));
  }

  camera(told) {
    const known = this.cameras.find(({ id, name }) => id === told.id && name === told.name);
    const made = known ?? this.tile(told);
    made.classes = told.classes ?? [];
    made.confidence = told.confidence;
    made.scene.setClasses(made.classes);
    return made;
  }

  tile({ id, name }) {
    const canvas = element("canvas", { role: "img", "aria-label": `${name}: no picture yet` });
    const label = element("span", { class: "badge" }, icon("waiting"), element("span", {}, name));
    const empty = element("p", { class: "empty" }, WAITING);
    const tile = element("figure", { class: "tile" }, canvas, empty, label);
    tile.addEventListener("click", () => {
      if (this.chosen === null && this.cameras.length > 1) this.choose(id);
    });
    return { id, name, tile, canvas, empty, label, scene: new Scene(canvas), spokenMs: -Infinity };
  }

  empty() {
    return element("p", { class: "empty" }, "No camera yet");
  }

  async picture(header, parts) {
    const camera = this.cameras[header.camera];
    if (!camera) return;
    let picture = null;
    try {
      picture = await camera.scene.decode(header, parts);
    } finally {
      if (!picture || this.isFrozen) this.connection.seen(camera.id); // or no other would ever come
    }
    if (this.isFrozen) return;
    camera.scene.show(picture);
    camera.unseen = true;
    this.dirty.add(camera);
    this.frame();
  }

  numbers(told) {
    this.told = told;
    this.charts.add(told.cameras);
    this.showNumbers();
  }

  connected(problem, isOver) {
    const notice = byId("notice");
    notice.hidden = !problem;
    setText(notice, problem ?? "");
    document.body.classList.toggle("offline", Boolean(problem));
    if (!problem && this.wasOffline) this.say("Connected again.");
    this.wasOffline = Boolean(problem);
    if (problem) {
      this.health(isOver ? { state: "ended" } : null);
      for (const { id } of this.cameras) this.mark(id, { state: isOver ? "ended" : "unknown" });
    }
  }

  // --- what is shown

  shown() {
    return this.chosen === null ? this.cameras : [this.cameras[this.chosen]];
  }

  choose(id) {
    this.chosen = id;
    for (const camera of this.cameras) {
      camera.tile.hidden = id !== null && camera.id !== id;
      camera.tile.classList.toggle("choosable", id === null && this.cameras.length > 1);
    }
    const pictures = byId("pictures");
    pictures.dataset.count = String(Math.min(this.shown().length, 9));
    for (const input of byId("cameras").querySelectorAll("input")) input.checked = input.value === String(id);
    const confident = this.shown().some(({ confidence }) => confidence);
    const seen = this.shown().some(({ classes }) => classes.length);
    byId("threshold").disabled = !confident;
    setText(
      byId("threshold-note"),
      confident || !seen ? "Below it a pixel is unknown." : "This bundle emits no confidence, so there is no threshold.",
    );
    this.watch();
    this.mayTakeSnapshot();
    this.redraw();
    this.legend();
    if (this.told) this.showNumbers();
  }

  watch() {
    const asleep = document.hidden || this.isFrozen;
    this.connection.watch(asleep ? [] : this.shown().map(({ id }) => id));
  }

  selector() {
    const box = byId("cameras");
    box.hidden = this.cameras.length < 2;
    const names = this.cameras.map(({ name }) => name).join("\n");
    if (box.dataset.names === names) return;
    box.dataset.names = names;
    const choices = [["null", "All", null], ...this.cameras.map(({ id, name }) => [String(id), name, id])];
    box.replaceChildren(
      box.querySelector("legend"),
      ...choices.map(([value, name, id]) => {
        const input = element("input", { type: "radio", name: "camera", value });
        input.addEventListener("change", () => this.choose(id));
        return element("label", {}, input, element("span", {}, ...(id === null ? [] : [icon("waiting")]), name));
      }),
    );
  }

  frame() {
    this.frameAsked ??= requestAnimationFrame(() => {
      this.frameAsked = null;
      for (const camera of this.dirty) this.draw(camera);
      this.dirty.clear();
      this.soonLegend();
    });
  }

  soonLegend() {
    const waitMs = this.lastLegendMs + LEGEND_MS - performance.now();
    this.legendAsked ??= setTimeout(() => {
      this.legendAsked = null;
      this.legend();
    }, Math.max(waitMs, 0));
  }

  redraw() {
    for (const camera of this.shown()) if (camera.scene.picture) this.dirty.add(camera);
    this.lastLegendMs = -LEGEND_MS;
    this.frame();
  }

  draw(camera) {
    camera.scene.draw({ ...this.view, hidden: this.classes.hidden });
    camera.tile.classList.add("live");
    this.mayTakeSnapshot();
    if (camera.unseen) {
      camera.unseen = false;
      this.connection.seen(camera.id);
    }
    const now = performance.now();
    if (now - camera.spokenMs > SPOKEN_MS) {
      camera.spokenMs = now;
      setAttribute(camera.canvas, "aria-label", spoken(camera));
    }
  }

  legend() {
    this.lastLegendMs = performance.now();
    this.caption();
    const shown = this.shown().filter(({ classes }) => classes.length);
    const items = new Map();
    let unknown = 0;
    for (const { classes, scene } of shown) {
      classes.forEach(([name, color], id) => {
        const item = items.get(name) ?? { name, color, share: null };
        if (scene.shares) item.share = (item.share ?? 0) + scene.shares[id] / shown.length;
        items.set(name, item);
      });
      unknown += (scene.shares?.at(-1) ?? 0) / shown.length;
    }
    const all = [...items.values()];
    if (this.view.threshold) all.push({ name: null, color: null, share: unknown });
    this.classes.show(all);
    const several = this.shown().length > 1;
    setText(byId("classes-note"), several ? "Share of the pictures, all cameras together." : "Share of the picture.");
  }

  caption() {
    const shown = this.shown();
    const headers = shown.filter(({ scene }) => scene.picture).map(({ scene }) => scene.picture.header);
    const sizes = [...new Set(headers.map(({ network }) => sizeText(network)))];
    const network = sizes.length ? [`network ${sizes.join(" and ")}`] : [];
    const told =
      shown.length > 1 ? [`${shown.length} cameras`, ...network] : headers.flatMap((header) => about(header, network));
    const text = [...(this.isFrozen ? ["frozen"] : []), ...told].join(" \u00b7 ");
    setText(byId("caption"), text || "\u00a0");
  }

  // --- numbers

  showNumbers() {
    const ids = new Set(this.shown().map(({ id }) => id));
    const cameras = this.told.cameras.filter(({ id }) => ids.has(id));
    this.charts.show(cameras);
    this.panels.show(this.told, cameras);
    this.health(this.told.health);
    for (const { id, numbers } of this.told.cameras) if (numbers) this.mark(id, numbers.health);
  }

  health(health) {
    const chip = byId("health");
    const state = health?.state ?? (document.body.classList.contains("offline") ? "offline" : "live");
    setAttribute(chip, "data-state", state);
    setIcon(chip.querySelector("svg"), state in STATES ? state : state === "live" ? "ok" : "waiting");
    const word = { offline: "Not connected", live: "Live" }[state] ?? stateWord(state);
    setText(byId("health-state"), word);
    setText(byId("health-since"), health?.for_s === undefined ? "" : since(health));
    const why = health?.why ?? "";
    setText(byId("health-why"), why);
    byId("health-why").hidden = !why;
    const spokenNow = health ? `${word}${why ? `: ${why}` : ""}` : "";
    if (health && state !== this.spokenState) {
      if (this.spokenState || state !== "ok") this.say(spokenNow);
      this.spokenState = state;
    }
  }

  mark(id, { state }) {
    const camera = this.cameras[id];
    if (!camera) return;
    setAttribute(camera.tile, "data-state", state);
    const name = state in STATES ? state : "waiting";
    setIcon(camera.label.querySelector("svg"), name);
    const isWell = state === "ok" || state === "unknown";
    setText(camera.empty, NO_MORE.includes(state) ? "No picture came" : WAITING);
    setText(camera.label.lastChild, isWell ? camera.name : `${camera.name}: ${stateWord(state).toLowerCase()}`);
    const choice = byId("cameras").querySelector(`input[value="${id}"] + span`);
    if (choice) {
      setIcon(choice.querySelector("svg"), name);
      setAttribute(choice, "data-state", state);
    }
  }

  say(text) {
    setText(byId("announcer"), text);
  }

  // --- buttons

  freeze(isFrozen) {
    this.isFrozen = isFrozen;
    const button = byId("freeze");
    setAttribute(button, "aria-pressed", String(isFrozen));
    setIcon(button.querySelector("svg"), isFrozen ? "play" : "pause");
    this.watch();
    this.caption();
  }

  mayTakeSnapshot() {
    byId("snapshot").disabled = !this.shown().some(({ scene }) => scene.picture);
  }

  snapshot() {
    const taken = this.shown().filter(({ scene }) => scene.picture);
    const [{ name, scene }] = taken;
    const file = this.shown().length === 1 ? `${fileName(name)}-${scene.picture.header.index}` : `cameras-${stamp()}`;
    joined(taken.map(({ canvas }) => canvas)).toBlob((blob) => {
      const link = element("a", { href: URL.createObjectURL(blob), download: `${file}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }, "image/png");
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else byId("pictures").requestFullscreen();
  }
}

function spoken({ name, classes, scene }) {
  const present = classes
    .map(([label], id) => [label, scene.shares[id]])
    .concat([["unknown", scene.shares.at(-1)]])
    .filter(([, part]) => part >= 0.01)
    .sort((a, b) => b[1] - a[1]);
  return `${name}: ${present.map(([label, part]) => `${label} ${share(part)}`).join(", ") || "nothing"}`;
}

// Several pictures in one, as they stand beside each other.
function joined(canvases) {
  if (canvases.length === 1) return canvases[0];
  const cols = Math.ceil(Math.sqrt(canvases.length));
  const width = Math.max(...canvases.map((canvas) => canvas.width));
  const height = Math.max(...canvases.map((canvas) => canvas.height));
  const whole = element("canvas", { width: cols * width, height: Math.ceil(canvases.length / cols) * height });
  const context = whole.getContext("2d", { alpha: false });
  canvases.forEach((canvas, index) => {
    context.drawImage(canvas, (index % cols) * width, Math.floor(index / cols) * height);
  });
  return whole;
}

// What one picture says about itself.
function about({ index, frame, age_ms }, network) {
  return [`frame ${count(index)}`, sizeText(frame), ...network, `${milliseconds(age_ms)} ms old when delivered`];
}

function sizeText(size) {
  return size.join("\u2009\u00d7\u2009");
}

function fileName(name) {
  return name.replace(/[^\p{L}\p{N}._-]+/gu, "_") || "picture";
}

function showValue(slider, text) {
  setText(byId(`${slider.id}-value`), text);
  setAttribute(slider, "aria-valuetext", text);
  slider.style.setProperty("--part", `${(100 * slider.value) / slider.max}%`);
}

if (location.search) history.replaceState(null, "", location.pathname); // the token is in a cookie now
if ("DecompressionStream" in window) new Page();
else {
  byId("notice").hidden = false;
  setText(byId("notice"), "This browser is too old for this page. Any of 2023 or later will do.");
}
