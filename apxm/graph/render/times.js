// The timeline: a lane for each worker, a bar for each firing. Drawn on a canvas, since there may be thousands.

const canvas = document.querySelector("#time canvas");
const hint = document.getElementById("hint");
const times = { from: 0, to: 1, bars: [], height: 0 };
const LABEL = 82, ROW = 11, BAR = 9;

function lanes() {
  const { timeline, critical } = DATA.run, found = [];
  if (critical.length) found.push({ title: "critical", rows: 1, spans: critical.map(([box, start, end]) => [start, end, box, -2, 0]) });
  for (const lane of timeline.lanes) found.push({ title: `worker ${lane.worker}`, ...lane });
  return found;
}

function drawTimes() {
  if (!DATA.run || canvas.offsetParent === null) return;
  const width = canvas.clientWidth, ratio = window.devicePixelRatio || 1, style = getComputedStyle(pictures[0] ?? canvas), page = getComputedStyle(document.documentElement);
  const tone = (name, from = style) => from.getPropertyValue(`--${name}`).trim() || "#888";
  const all = lanes(), height = all.reduce((sum, lane) => sum + lane.rows * ROW + (lane.bins ? 26 : 0) + 7, 0) + 22;
  canvas.style.height = `${height}px`;
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  times.bars = [];
  const wide = width - LABEL - 8, x = (at) => LABEL + ((at - times.from) / (times.to - times.from)) * wide;
  axis(pen, x, height, tone("soft", page), tone("rule", page));
  const colours = DATA.outcomes_all.map((outcome) => tone(outcome));
  let y = 20;
  for (const lane of all) {
    const rows = lane.rows * ROW + (lane.bins ? 26 : 0);
    pen.fillStyle = tone("soft", page);
    pen.fillText(lane.title, 10, y + 9);
    pen.save();
    pen.beginPath();
    pen.rect(LABEL, y - 1, wide, rows + 2);
    pen.clip();
    if (lane.bins) profile(pen, lane.bins, x, y, tone("edge"));
    const top = y + (lane.bins ? 26 : 0);
    for (const [start, end, box, outcome, row] of lane.spans) {
      if (end < times.from || start > times.to) continue;
      const left = x(start), long = Math.max(x(end) - left, 1), at = top + row * ROW;
      pen.fillStyle = outcome === -2 ? tone("critical") : colours[outcome] ?? tone("edge");
      pen.globalAlpha = chosen && box !== chosen.n ? 0.3 : 1;
      pen.fillRect(left, at, long, BAR);
      if (long > 3) pen.clearRect(left + long - 0.6, at, 0.6, BAR);
      if (outcome === 0 && long > 7) cross(pen, left + 3.5, at + BAR / 2, tone("paper"));
      if (long > 34 && box >= 0) caption(pen, DATA.boxes[box].name, left + (outcome === 0 ? 9 : 3), at + BAR - 1.5, long - 8, tone("paper"));
      times.bars.push([left, at, long, start, end, box, outcome]);
    }
    pen.restore();
    pen.globalAlpha = 1;
    y += rows + 7;
  }
}

function cross(pen, x, y, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.4;
  pen.beginPath();
  pen.moveTo(x - 2, y - 2), pen.lineTo(x + 2, y + 2), pen.moveTo(x + 2, y - 2), pen.lineTo(x - 2, y + 2);
  pen.stroke();
}

function caption(pen, text, x, y, wide, colour) {
  pen.fillStyle = colour;
  pen.font = "9px ui-monospace, monospace";
  const fits = Math.floor(wide / 5.5);
  pen.fillText(text.length > fits ? `${text.slice(0, Math.max(fits - 1, 1))}…` : text, x, y);
  pen.font = "11px system-ui, sans-serif";
}

function axis(pen, x, height, ink, rule) {
  const seen = times.to - times.from, rough = seen / Math.max(canvas.clientWidth / 110, 2);
  const power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find((one) => one * power >= rough) * power;
  for (let at = Math.ceil(times.from / step) * step; at <= times.to; at += step) {
    const left = Math.round(x(at)) + 0.5;
    pen.strokeStyle = rule;
    pen.beginPath();
    pen.moveTo(left, 14), pen.lineTo(left, height);
    pen.stroke();
    pen.fillStyle = ink;
    pen.fillText(time(Math.max(at, 0)), left + 3, 11);
  }
}

function profile(pen, bins, x, y, colour) {
  const most = Math.max(...bins, 1), size = DATA.run.timeline.end / bins.length;
  pen.fillStyle = colour;
  bins.forEach((load, at) => {
    if (load) pen.fillRect(x(at * size), y + 23 - (22 * load) / most, Math.max(x((at + 1) * size) - x(at * size), 0.5), (22 * load) / most);
  });
}

// ---- looking closer -------------------------------------------------------------------------------------------------
function stretch(factor, x = canvas.clientWidth / 2) {
  const end = DATA.run.timeline.end, share = Math.min(Math.max((x - LABEL) / (canvas.clientWidth - LABEL - 8), 0), 1);
  const length = Math.min(Math.max((times.to - times.from) / factor, end / 1e5), end), pin = times.from + share * (times.to - times.from);
  times.from = Math.min(Math.max(pin - share * length, 0), end - length);
  times.to = times.from + length;
  drawTimes();
}

function slide(dx) {
  const length = times.to - times.from, shift = (dx / (canvas.clientWidth - LABEL)) * length;
  times.from = Math.min(Math.max(times.from - shift, 0), DATA.run.timeline.end - length);
  times.to = times.from + length;
  drawTimes();
}

function under(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  return times.bars.findLast(([left, top, long]) => x >= left - 1 && x <= left + long + 1 && y >= top && y <= top + BAR);
}

function tell(event) {
  const bar = under(event);
  hint.hidden = !bar;
  canvas.style.cursor = bar ? "pointer" : "";
  if (!bar) return;
  const [, , , start, end, box, outcome] = bar;
  const name = box >= 0 ? `${DATA.boxes[box].name} (${DATA.boxes[box].op})` : "not in this program";
  hint.textContent = `${name}\n${time(start)} – ${time(end)}: ${time(end - start)}${outcome >= 0 ? `, ${DATA.outcomes_all[outcome]}` : ""}`;
  hint.style.left = `${Math.min(event.clientX + 12, window.innerWidth - hint.offsetWidth - 8)}px`;
  hint.style.top = `${event.clientY - hint.offsetHeight - 10}px`;
}

function timeline() {
  const { timeline: all } = DATA.run, box = document.getElementById("time");
  [times.from, times.to] = [0, all.end || 1e-6];
  const firings = all.lanes.reduce((sum, lane) => sum + lane.firings, 0);
  const more = all.hidden ? `; the ${number(firings - all.hidden)} longest are drawn, the grey profile counts all` : "";
  box.querySelector(".soft").textContent = `${plural(all.lanes.length, "worker")}, ${plural(firings, "firing")}${more}; wheel zooms, drag moves, double click shows all`;
  canvas.setAttribute("aria-label", `Firings of ${plural(all.lanes.length, "worker")} over ${time(all.end)}. Plus and minus zoom, arrow keys move.`);
  box.hidden = false;
  if (window.innerWidth < 700) box.open = false;
  box.addEventListener("toggle", () => drawTimes());
  canvas.addEventListener("wheel", (event) => (event.preventDefault(), stretch(Math.exp(-event.deltaY * 0.002), event.clientX - canvas.getBoundingClientRect().left)), { passive: false });
  let held = null, far = 0;
  canvas.addEventListener("pointerdown", (event) => ([held, far] = [event.clientX, 0]));
  canvas.addEventListener("pointermove", (event) => {
    if (held === null) return tell(event);
    far += Math.abs(event.clientX - held);
    slide(event.clientX - held);
    held = event.clientX;
  });
  window.addEventListener("pointerup", () => (held = null));
  canvas.addEventListener("pointerleave", () => (hint.hidden = true));
  canvas.addEventListener("click", (event) => {
    const bar = under(event);
    if (bar && bar[5] >= 0 && far < 4) open(DATA.boxes[bar[5]], true);
  });
  canvas.addEventListener("dblclick", () => stretch(1e-9));
  canvas.addEventListener("keydown", (event) => {
    const act = { "+": () => stretch(1.5), "=": () => stretch(1.5), "-": () => stretch(1 / 1.5), 0: () => stretch(1e-9), ArrowLeft: () => slide(60), ArrowRight: () => slide(-60) }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  drawTimes();
}
