// The page: shows the bridge's state, sends a person's commands. Data reaches the document as text
// only, never as markup. The connection is link.js, the plots are plots.js.

import { Link, takeToken } from "./link.js";
import { History, Plots } from "./plots.js";

const STALE_MS = 1000;
const CONFIRM_MS = 3000;
const DOUBLE_TAP_MS = 350;
const SAID_MS = 6000;
const JOG_REPEAT_MS = 200;
const LATE_PICTURE_MS = 1000;
const NAMES = { estop: "E-stop", idle: "idle", approach: "approach", running: "running",
  hold: "hold", fault: "fault" };

const at = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-command]")];
const history = new History();
const plots = new Plots(at("plots"));
const pictures = new Map();
let state = null;
let arrived = 0;
let behind = 0;
let deadman = 0;
let lostReason = "";
let redraw = true;
let saidTimer = 0;

const token = takeToken();
const link = new Link(token, {
  welcome(message) {
    deadman = message.deadman_s;
    at("token-card").hidden = true;
    update();
  },
  state(message, transit) {
    [state, arrived, behind] = [message, performance.now(), transit];
    history.add(message.status);
    redraw = true;
    update();
  },
  picture: showPicture,
  lost(reason, wrongToken) {
    lostReason = reason;
    at("token-card").hidden = !wrongToken;
    update();
  },
});
at("token-card").hidden = token !== "";

// ---- what is shown ------------------------------------------------------------------------------

function ageMs() {
  return state === null ? Infinity : state.age_ms + behind + performance.now() - arrived;
}

function linkState() {
  if (!link.open || state === null) return "lost";
  return ageMs() > STALE_MS ? "stale" : "live";
}

function update() {
  const connection = linkState();
  document.body.dataset.link = connection;
  banner(connection);
  if (state !== null) {
    const { status } = state;
    document.body.dataset.mode = status.mode;
    put(at("mode"), modeText(status, connection));
    put(at("reason"), status.reason);
  }
  enable(connection);
  if (state !== null && connection === "live") showStatus(state.status);
}

function modeText(status, connection) {
  const name = NAMES[status.mode] ?? status.mode;
  const person = status.source.takeover && status.mode === "running" ? ", taken over" : "";
  return connection === "lost" ? `${name}?` : name + person;
}

/** Unchanged text is left alone: it would be read aloud again. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function banner(connection) {
  const texts = {
    lost: `Connection lost${lostReason ? ` (${lostReason})` : ""}. What is shown is old; the arm may `
      + "be moving. E-STOP keeps trying.",
    stale: `Stale: the state is ${(ageMs() / 1000).toFixed(1)} s old.`,
    live: "",
  };
  if (connection === "lost" && !link.token) texts.lost = "Not connected: no token yet.";
  const text = texts[connection];
  at("banner").hidden = text === "";
  put(at("banner"), text);
}

function enable(connection) {
  const accepted = state === null ? [] : state.status.commands;
  for (const button of buttons) {
    const possible = accepted.includes(button.dataset.command);
    const moves = "moves" in button.dataset;
    button.disabled = connection === "lost" || !possible || (moves && connection === "stale");
  }
  for (const field of document.querySelectorAll("main input, main select")) {
    field.disabled = connection === "lost" && !at("token-card").contains(field);
  }
  const jogging = accepted.includes("jog");
  at("jog").hidden = !jogging;
  if (jogging) buildJog(state.status.joints);
  for (const button of at("jog-joints").querySelectorAll("button")) {
    button.disabled = connection !== "live" || !jogging;
  }
}

function showStatus(status) {
  const counts = Object.entries(status.interventions).sort((a, b) => b[1] - a[1]);
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  at("intervention-total").textContent = String(total);
  table("interventions", counts.length ? counts.map(([name, n]) => [name, String(n)])
    : [["none since the start", ""]]);
  showTiming(status);
  showHealth(status);
  const { recorder, episode } = status;
  table("episode", [
    ["number", String(episode.number)],
    ["instruction", episode.instruction || "–"],
    ["steps logged", String(recorder.steps)],
    ["finished", String(recorder.episodes)],
    ["file", recorder.path.split("/").pop() || "–"],
  ]);
  at("cameras").hidden = Object.keys(status.cameras).length === 0;
}

function showTiming({ rate_hz: rate, timing, ages_ms: ages }) {
  const ms = (name) => ["p50", "p99", "max"].map((q) => timing[`${name}_${q}_ms`]?.toFixed(2) ?? "–");
  grid("quantiles", [["ms", "p50", "p99", "max"], ["late", ...ms("late")], ["busy", ...ms("busy")]]);
  table("timing", [
    ["rate", `${rate} Hz, ${timing.ticks ?? 0} ticks`],
    ["overruns, skipped", `${timing.overruns ?? 0}, ${timing.skipped ?? 0}`],
    ...Object.entries(ages).map(([name, age]) => [`${name} age`,
      age === null ? "–" : `${age.toFixed(0)} ms`]),
  ]);
}

function showHealth(status) {
  const { robot, reading, source, cameras, recorder } = status;
  const rows = [["arm", robot.name, ""], ["", armText(robot, reading), armQuality(robot, reading)]];
  const row = (name, text, good, warn = false) =>
    rows.push([name, text, good ? (warn ? "warn" : "good") : "bad"]);
  if (reading) {
    row("gripper", reading.gripper_measured ? "measured" : "not measured: the command is shown",
      true, !reading.gripper_measured);
  }
  rows.push(["source", source.name, ""]);
  row("", source.last_error || (source.ready
    ? `${source.chunks} chunks, ${source.late} late, ${source.latency_ms.toFixed(0)} ms` : "not ready"),
    source.ready, source.last_error !== "" || source.late > 0);
  for (const [name, camera] of Object.entries(cameras)) {
    row(`camera ${name}`, camera.age_ms === null ? "no picture yet"
      : `${camera.width}×${camera.height}, ${camera.age_ms.toFixed(0)} ms old`,
    camera.age_ms !== null && camera.age_ms < LATE_PICTURE_MS);
  }
  row("recorder", recorder.trouble || (recorder.recording ? "recording" : "waiting"),
    !recorder.trouble && !recorder.lost_steps, recorder.queued_bytes > 64e6);
  if (deadman > 0) {
    const holds = state.deadman_holds;
    row("dead man's switch", `page within ${deadman} s${holds ? `; held ${holds}×` : ""}`, true,
      holds > 0);
  }
  table("health", rows);
}

function armText(robot, reading) {
  if (!robot.connected) return robot.last_error || "not connected";
  if (reading && !reading.powered) return "power is off";
  const parts = [`${robot.reads} reads`, `${robot.failed_reads + robot.unanswered} failed`];
  if (robot.reconnects) parts.push(`${robot.reconnects} reconnects`);
  if (reading?.error) parts.push(`error ${reading.error}`);
  return parts.join(", ");
}

function armQuality(robot, reading) {
  if (!robot.connected || !reading?.powered || reading.error) return "bad";
  return robot.reconnects ? "warn" : "good";
}

/** Rows of [name, text, state]; cells are made once and only their text changes. */
function table(id, rows) {
  const body = at(id);
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach(([name, text, quality], i) => {
    const line = body.rows[i] ?? body.insertRow();
    while (line.cells.length < 2) line.insertCell();
    const value = quality ? withDot(line.cells[1]) : plain(line.cells[1]);
    put(line.cells[0], name);
    put(value, text);
    line.dataset.state = quality || "";
    line.classList.toggle("more", name === "");
  });
}

function plain(cell) {
  if (cell.children.length) cell.replaceChildren();
  return cell;
}

/** Rows of texts. */
function grid(id, rows) {
  rows.forEach((row, i) => {
    const line = at(id).rows[i] ?? at(id).insertRow();
    while (line.cells.length < row.length) line.insertCell();
    row.forEach((text, j) => put(line.cells[j], text));
  });
}

function withDot(cell) {
  if (cell.children.length !== 2) {
    const [dot, label] = [document.createElement("span"), document.createElement("span")];
    dot.className = "dot";
    cell.replaceChildren(dot, label);
  }
  return cell.children[1];
}

async function showPicture(name, age, jpeg) {
  const picture = await createImageBitmap(jpeg);
  if (!pictures.has(name)) pictures.set(name, makeFigure(name));
  const { canvas, label } = pictures.get(name);
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    [canvas.width, canvas.height] = [picture.width, picture.height];
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  label.textContent = `${age} ms`;
  label.className = age > LATE_PICTURE_MS ? "old" : "";
}

function makeFigure(name) {
  const [figure, canvas, caption, title, label] = ["figure", "canvas", "figcaption", "span", "span"]
    .map((tag) => document.createElement(tag));
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `picture of camera ${name}`);
  title.textContent = name;
  caption.append(title, label);
  figure.append(canvas, caption);
  at("pictures").append(figure);
  return { canvas, label };
}

// ---- what a person does -------------------------------------------------------------------------

function say(text, refused = false) {
  at("said").textContent = text;
  at("said").classList.toggle("refused", refused);
  clearTimeout(saidTimer);
  saidTimer = setTimeout(() => put(at("said"), ""), SAID_MS);
}

async function command(name, args, words) {
  const reply = await link.command(name, args);
  say(reply.ok ? words : `${words}: refused: ${reply.reason}`, !reply.ok);
  return reply.ok;
}

/** The first tap on what moves the arm only asks; another one does it, but not a double tap. */
function confirmed(button) {
  if (!("moves" in button.dataset)) return true;
  if (button.classList.contains("armed")) {
    const soon = performance.now() - button.dataset.since < DOUBLE_TAP_MS;
    if (!soon) disarm(button);
    return !soon;
  }
  Object.assign(button.dataset, { label: button.textContent, since: performance.now() });
  button.textContent = "Sure?";
  button.classList.add("armed");
  say(`${button.dataset.label}: ${button.dataset.how === "free" ? "hold the arm, it will be free"
    : "the arm will move"}; tap again`);
  setTimeout(() => disarm(button), CONFIRM_MS);
  return false;
}

function disarm(button) {
  if (!button.classList.contains("armed")) return;
  button.classList.remove("armed");
  button.textContent = button.dataset.label;
}

function press(button) {
  const name = button.dataset.command;
  if (name === "note" || name === "instruction") {
    const field = at(name);
    command(name, { text: field.value }, name).then((ok) => { if (ok) field.value = ""; });
  } else if (confirmed(button)) {
    command(name, name === "takeover" ? { how: button.dataset.how } : {}, button.textContent);
  }
}

for (const button of buttons) button.addEventListener("click", () => press(button));
for (const name of ["note", "instruction"]) {
  at(name).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !at(`${name}-send`).disabled) press(at(`${name}-send`));
  });
}
at("token-use").addEventListener("click", () => link.useToken(at("token").value.trim()));

function estop() {
  const mark = at("estop-state");
  mark.textContent = "stopping …";
  link.estop((text, done) => {
    mark.textContent = text;
    if (done) setTimeout(() => { mark.textContent = "tap, or space key"; }, 4000);
  });
}

// At the touch already, not when the finger leaves; `click` is for Enter and assistive tools.
at("estop").addEventListener("pointerdown", estop);
at("estop").addEventListener("click", (event) => { if (event.detail === 0) estop(); });
for (const kind of ["keydown", "keyup"]) {
  addEventListener(kind, (event) => {
    if (event.code !== "Space" || event.target.matches("input")) return;
    // Else a focused button would be pressed by the same key.
    event.preventDefault();
    event.stopPropagation();
    if (kind === "keydown" && !event.repeat) estop();
  }, { capture: true });
}

// ---- jog ----------------------------------------------------------------------------------------

let jogTimer = 0;

function buildJog(joints) {
  if (at("jog-joints").dataset.joints === joints.join()) return;
  at("jog-joints").dataset.joints = joints.join();
  at("jog-joints").replaceChildren(...joints.map((joint) => {
    const [row, label] = [document.createElement("div"), document.createElement("span")];
    row.className = "jog";
    label.textContent = joint;
    row.append(label, jogButton(joint, -1), jogButton(joint, 1));
    return row;
  }));
}

function jogButton(joint, sign) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = sign < 0 ? "−" : "+";
  button.setAttribute("aria-label", `${joint} ${sign < 0 ? "minus" : "plus"}`);
  const end = () => clearInterval(jogTimer);
  button.addEventListener("pointerdown", () => {
    end();
    jog(joint, sign);
    jogTimer = setInterval(() => (button.disabled ? end() : jog(joint, sign)), JOG_REPEAT_MS);
  });
  for (const kind of ["pointerup", "pointerleave", "pointercancel"]) {
    button.addEventListener(kind, end);
  }
  button.addEventListener("click", (event) => { if (event.detail === 0) jog(joint, sign); });
  return button;
}

function jog(joint, sign) {
  if (joint === "gripper") {
    const { target, reading, joints } = state.status;
    const now = target?.[joints.indexOf("gripper")] ?? reading?.gripper ?? 1;
    command("gripper", { opening: Math.min(1, Math.max(0, now + sign * 0.1)) }, "gripper");
  } else {
    const change = (sign * Number(at("jog-step").value) * Math.PI) / 180;
    command("jog", { joint, change }, `${joint} ${sign < 0 ? "−" : "+"}${at("jog-step").value}°`);
  }
}

addEventListener("blur", () => clearInterval(jogTimer));

// ---- clock --------------------------------------------------------------------------------------

setInterval(update, 200);
function frame() {
  if (redraw && state !== null) plots.draw(state.status, history);
  redraw = false;
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
addEventListener("resize", () => { redraw = true; });
