// Small plots of one joint each: where it was, where it was sent, where the plan goes.

const PAST_S = 8;
const AHEAD_S = 3;
const DEGREES = 180 / Math.PI;
const PAD = 0.12;

/** Keeps what the last seconds showed, in degrees and gripper percent. */
export class History {
  constructor() {
    this.rows = [];
    this.plan = null;
  }

  add(status) {
    const now = status.time_ns / 1e9;
    const last = this.rows[this.rows.length - 1];
    if (last && now < last.time) this.rows = [];
    if (!last || now > last.time) {
      this.rows.push({ time: now, actual: actual(status), target: shown(status, status.target) });
    }
    while (this.rows.length && this.rows[0].time < now - PAST_S) this.rows.shift();
    const rows = status.plan ? status.plan.actions.map((row) => shown(status, row)) : [];
    this.plan = rows.map((values, i) => ({ time: now + status.plan.offsets_s[i], values }));
    this.now = now;
  }
}

function isGripper(name) {
  return name === "gripper";
}

function shown(status, values) {
  if (!values) return [];
  return status.joints.map((name, i) =>
    values[i] === null || values[i] === undefined
      ? null
      : values[i] * (isGripper(name) ? 100 : DEGREES),
  );
}

function actual(status) {
  const { reading } = status;
  if (!reading) return [];
  return shown(status, [...reading.angles, reading.gripper]);
}

/** One canvas a joint, made once for the joints' names. */
export class Plots {
  constructor(parent) {
    this.parent = parent;
    this.names = "";
    this.items = [];
    this.colors = null;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => (this.colors = null));
  }

  draw(status, history) {
    if (this.names !== status.joints.join()) this.build(status.joints);
    this.colors ??= readColors();
    this.items.forEach((item, i) => this.drawOne(item, i, history));
  }

  build(joints) {
    this.names = joints.join();
    this.parent.replaceChildren();
    this.items = joints.map((name) => {
      const root = document.createElement("div");
      const head = document.createElement("header");
      const [label, value] = [document.createElement("span"), document.createElement("b")];
      const canvas = document.createElement("canvas");
      root.className = "plot";
      label.textContent = name;
      canvas.setAttribute("role", "img");
      head.append(label, value);
      root.append(head, canvas);
      this.parent.append(root);
      return { name, canvas, value, unit: isGripper(name) ? " %" : "°" };
    });
  }

  drawOne(item, index, history) {
    const last = history.rows[history.rows.length - 1];
    const now = last?.actual[index];
    const text = (x) => (x === null || x === undefined ? "–" : x.toFixed(1) + item.unit);
    item.value.textContent = text(now);
    item.canvas.setAttribute("aria-label", `${item.name}: actual ${text(now)}`);
    const { context, width, height } = fitted(item.canvas);
    context.clearRect(0, 0, width, height);
    const lines = this.lines(index, history);
    const [low, high] = range(lines.flatMap((line) => line.points.map((p) => p[1])));
    const x = (time) => ((time - history.now + PAST_S) / (PAST_S + AHEAD_S)) * width;
    const y = (value) => height - ((value - low) / (high - low)) * height;
    this.drawFrame(context, x(history.now), width, height, [low, high], item.unit);
    for (const line of lines) {
      context.strokeStyle = this.colors[line.color];
      context.lineWidth = line.width;
      context.setLineDash(line.dash);
      context.beginPath();
      line.points.forEach(([time, value], i) => {
        if (i === 0 || line.gaps.has(i)) context.moveTo(x(time), y(value));
        else context.lineTo(x(time), y(value));
      });
      context.stroke();
    }
    context.setLineDash([]);
  }

  lines(index, history) {
    const line = (rows, pick, color, width, dash) => {
      const points = [];
      const gaps = new Set();
      for (const row of rows) {
        const value = pick(row);
        if (value === null || value === undefined) gaps.add(points.length);
        else points.push([row.time, value]);
      }
      return { points, gaps, color, width, dash };
    };
    const ahead = history.plan.filter((row) => row.time <= history.now + AHEAD_S
      && row.time >= history.now - PAST_S);
    return [
      line(history.rows, (row) => row.target[index], "target", 1.5, []),
      line(ahead, (row) => row.values[index], "plan", 2, [2, 4]),
      line(history.rows, (row) => row.actual[index], "actual", 2, []),
    ];
  }

  drawFrame(context, now, width, height, [low, high], unit) {
    context.strokeStyle = this.colors.line;
    context.lineWidth = 1;
    context.setLineDash([]);
    context.strokeRect(0.5, 0.5, width - 1, height - 1);
    context.beginPath();
    context.moveTo(Math.round(now) + 0.5, 0);
    context.lineTo(Math.round(now) + 0.5, height);
    context.stroke();
    context.fillStyle = this.colors.quiet;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    context.fillText(high.toFixed(0) + unit, width - 4, 12);
    context.fillText(low.toFixed(0) + unit, width - 4, height - 4);
  }
}

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["actual", "target", "plan", "line", "quiet"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function range(values) {
  if (!values.length) return [-5, 5];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  // A joint at rest must not look as if it shook.
  const half = Math.max((high - low) / 2, 4) * (1 + PAD);
  return [(low + high) / 2 - half, (low + high) / 2 + half];
}

function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}
