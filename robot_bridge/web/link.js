// The connection to the bridge: token, socket, heartbeats, commands, and an e-stop that does not
// rely on any of them. Knows nothing about what is shown.

const PROTOCOL = 1;
const BEAT_MS = 250;
const RECONNECT_MS = 1000;
const SILENT_MS = 4000;
const STOP_ANSWER_MS = 300;
const STOP_ATTEMPTS = 20;
const WRONG_TOKEN = 4401;

/** The token from `#token=...` (removed from the address at once) or of this tab. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") || "";
}

export class Link {
  /** `on` has: welcome(message), state(message), picture(name, age_ms, blob), lost(reason). */
  constructor(token, on) {
    this.token = token;
    this.on = on;
    this.socket = null;
    this.welcome = false;
    this.wrongToken = false;
    this.waiting = new Map();
    this.number = 0;
    setInterval(() => {
      this.dropSilent();
      this.beat();
    }, BEAT_MS);
    this.connect();
  }

  /** Whether a command would be sent; false already while the socket is closing. */
  get open() {
    return this.welcome && this.socket.readyState === WebSocket.OPEN;
  }

  useToken(token) {
    sessionStorage.setItem("token", token);
    this.token = token;
    this.wrongToken = false;
    this.connect();
  }

  connect() {
    if (!this.token || this.wrongToken || this.socket) return;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/socket`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: "hello", version: PROTOCOL, token: this.token }));
    };
    socket.onmessage = (event) => this.take(event.data);
    socket.onclose = (event) => this.closed(event);
    this.socket = socket;
    this.heard = performance.now();
  }

  /** A connection can be gone without either end being told; the browser would wait minutes. */
  dropSilent() {
    const socket = this.socket;
    if (!socket || performance.now() - this.heard < SILENT_MS) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.closed({ code: 0, reason: "no answer" });
  }

  take(data) {
    this.heard = performance.now();
    if (typeof data !== "string") {
      const view = new DataView(data);
      const length = view.getUint8(0);
      const name = new TextDecoder().decode(new Uint8Array(data, 5, length));
      const jpeg = new Blob([new Uint8Array(data, 5 + length)], { type: "image/jpeg" });
      this.on.picture(name, view.getUint32(1), jpeg);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "welcome") {
      this.welcome = true;
      this.beat();
      this.on.welcome(message);
    } else if (message.type === "state") {
      // Transit is at most the time since the newest beat that the bridge had seen.
      const behind = message.beat === null ? 0 : performance.now() - message.beat - BEAT_MS;
      this.on.state(message, Math.max(0, behind));
    } else if (message.type === "reply") {
      const answer = this.waiting.get(message.number);
      this.waiting.delete(message.number);
      if (answer) answer(message);
    }
  }

  closed(event) {
    this.welcome = false;
    this.socket = null;
    for (const answer of this.waiting.values()) answer({ ok: false, reason: "connection lost" });
    this.waiting.clear();
    this.wrongToken = event.code === WRONG_TOKEN;
    this.on.lost(event.reason || "", this.wrongToken);
    setTimeout(() => this.connect(), RECONNECT_MS);
  }

  /** A page that nobody can see is no reason to keep the arm moving. */
  beat() {
    if (!this.open || document.visibilityState !== "visible") return;
    this.socket.send(JSON.stringify({ type: "beat", sent: performance.now() }));
  }

  /** Promise of {ok, reason}. */
  command(name, args = {}) {
    if (!this.open) return Promise.resolve({ ok: false, reason: "not connected" });
    const number = ++this.number;
    return new Promise((resolve) => {
      this.waiting.set(number, resolve);
      this.socket.send(JSON.stringify({ type: "command", number, name, arguments: args }));
    });
  }

  /** Over the socket, and over HTTP too unless that is confirmed quickly. `say` tells progress. */
  async estop(say) {
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    if (this.open) {
      const late = pause(STOP_ANSWER_MS).then(() => ({ ok: false }));
      if ((await Promise.race([this.command("estop"), late])).ok) return say("stopped", true);
    }
    for (let attempt = 1; attempt <= STOP_ATTEMPTS; attempt++) {
      say(`not confirmed, attempt ${attempt}`, false);
      try {
        const answer = await fetch("/estop", {
          method: "POST",
          headers: { Authorization: `Bearer ${this.token}` },
          signal: AbortSignal.timeout(1000),
        });
        if (answer.ok) return say("stopped", true);
        if (answer.status === 401) return say("REFUSED: wrong token", false);
      } catch {
        // No connection: the next attempt may find one.
      }
      await pause(250);
    }
    return say("NOT CONFIRMED: use the switch on the arm", false);
  }
}
