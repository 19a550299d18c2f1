// The WebSocket to the robot: connects again by itself, and tells what it knows about why it is gone.

import { clock } from "/assets/text.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const SILENCE_MS = 6000; // numbers come twice a second
const BUSY = 1013;
const STOPPED = [1001, 1012];
const TOKEN_REFUSED =
  "The token is not valid any more. Open the address that was printed when the page was started.";

export class Connection {
  // `on`: hello(data), numbers(data), picture(header, parts), state(text or null, whether the run is over)
  constructor(on) {
    this.on = on;
    this.watched = [];
    this.waitMs = FIRST_WAIT_MS;
    this.connect();
    setInterval(() => this.checkSilence(), 1000);
    addEventListener("online", () => this.hurry());
    addEventListener("pageshow", () => this.hurry());
  }

  connect() {
    this.timer = null;
    this.heardMs = performance.now();
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.receive(socket, event.data);
    socket.onclose = (event) => this.closed(socket, event);
    this.socket = socket;
  }

  watch(cameras) {
    this.watched = cameras;
    this.send({ watch: cameras });
  }

  seen(what) {
    this.send({ seen: what });
  }

  send(order) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(order));
  }

  receive(socket, data) {
    if (socket !== this.socket) return;
    this.heardMs = performance.now();
    if (typeof data !== "string") {
      this.on.picture(...unpacked(data));
      return;
    }
    const told = JSON.parse(data);
    if (told.type === "hello") {
      this.waitMs = FIRST_WAIT_MS;
      this.lost = null;
      this.isOver = false;
      this.on.state(null);
      this.on.hello(told);
      this.send({ watch: this.watched });
    } else if (told.type === "numbers") {
      this.on.numbers(told);
      this.seen("numbers");
    }
  }

  async closed(socket, event) {
    if (socket !== this.socket) return;
    const waitMs = this.waitMs * (0.75 + 0.5 * Math.random());
    this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
    this.timer = setTimeout(() => this.connect(), waitMs);
    this.lost ??= clock((performance.now() - this.heardMs) / 1000);
    this.isOver ||= STOPPED.includes(event.code);
    const isBusy = event.code === BUSY;
    this.on.state(isBusy ? `${event.reason}. Trying again.` : situation(this.lost, this.isOver), this.isOver);
    const isRefused = !isBusy && (await isTokenRefused());
    if (isRefused && this.lost !== null) this.on.state(TOKEN_REFUSED, this.isOver); // not connected again meanwhile
  }

  checkSilence() {
    if (this.timer === null && performance.now() - this.heardMs > SILENCE_MS) {
      const socket = this.socket;
      this.closed(socket, { code: 0 });
      this.socket = { readyState: WebSocket.CLOSED };
      socket.close();
    }
  }

  hurry() {
    if (this.timer !== null) {
      clearTimeout(this.timer);
      this.connect();
    }
  }
}

// A browser does not say why a WebSocket was refused, but it does for an ordinary request.
async function isTokenRefused() {
  try {
    const answer = await fetch("/api/status", { signal: AbortSignal.timeout(3000) });
    return answer.status === 401;
  } catch {
    return false; // not reachable, which is said already
  }
}

function situation(lost, isOver) {
  if (isOver) return `The run ended at ${lost}: pictures and figures are its last. The next one appears here.`;
  return `Not connected since ${lost}: pictures and figures are from before. Trying again.`;
}

// See `packed` in view.py.
function unpacked(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let start = 4 + length;
  const parts = header.parts.map((size) => {
    const part = new Uint8Array(buffer, start, size);
    start += size;
    return part;
  });
  return [header, parts];
}
