// Where boxes and lines go when regions are folded. Squeezes what is there together; never orders anything anew, so that
// a reader finds everything where it was.

const folded = new Set(); // numbers of boxes whose regions are closed

// Which parts of an axis may go: those that only what has shrunk gives free. Gives the map of old places to new ones.
function squeeze(free, solid) {
  const marks = [];
  for (const [a, b] of free) if (b > a) marks.push([a, 1, 0], [b, -1, 0]);
  if (!marks.length) return (at) => at;
  for (const [a, b] of solid) if (b > a) marks.push([a, 0, 1], [b, 0, -1]);
  marks.sort((one, two) => one[0] - two[0]);
  const cuts = []; // [from, to, gone before]
  let loose = 0, held = 0, gone = 0;
  marks.forEach(([at, more, kept], i) => {
    loose += more;
    held += kept;
    const next = i + 1 < marks.length ? marks[i + 1][0] : at;
    if (loose > 0 && held === 0 && next > at) {
      cuts.push([at, next, gone]);
      gone += next - at;
    }
  });
  return (at) => {
    let low = 0, high = cuts.length; // the last cut that begins before `at`
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cuts[middle][0] < at) low = middle + 1;
      else high = middle;
    }
    if (!low) return at;
    const [from, to, before] = cuts[low - 1];
    return at - before - (Math.min(at, to) - from);
  };
}

const TIP = 7; // length of the head of a line
const MARGIN_X = 14, MARGIN_BEND = 6;

// New sizes and places of a drawing: of its boxes (nx, ny, nw, nh), of the panels in them, and of itself.
function settle(drawing) {
  for (const number of drawing.boxes) resize(DATA.boxes[number]);
  const across = { free: [], solid: [] }, down = { free: [], solid: [] };
  for (const number of drawing.boxes) {
    const box = DATA.boxes[number], middle = box.x + box.w / 2;
    const left = middle - box.nw / 2 - MARGIN_X, right = middle + box.nw / 2 + MARGIN_X;
    across.solid.push([left, right]);
    if (box.nw < box.w) across.free.push([box.x, left], [right, box.x + box.w]);
    down.solid.push([box.y, box.y + box.nh]);
    if (box.nh < box.h) down.free.push([box.y + box.nh, box.y + box.h]);
  }
  for (const number of drawing.lines)
    for (const [x] of DATA.lines[number].bends) across.solid.push([x - MARGIN_BEND, x + MARGIN_BEND]);
  const toX = squeeze(across.free, across.solid), toY = squeeze(down.free, down.solid);
  for (const number of drawing.boxes) {
    const box = DATA.boxes[number];
    box.nx = toX(box.x + box.w / 2 - box.nw / 2);
    box.ny = toY(box.y);
  }
  for (const number of drawing.lines) {
    const line = DATA.lines[number];
    line.nbottom = toY(line.bottom);
    line.nbends = line.bends.map(([x, top, bottom]) => [toX(x), toY(top), toY(bottom)]);
  }
  drawing.nw = toX(drawing.w);
  drawing.nh = toY(drawing.h);
}

function resize(box) {
  [box.nw, box.nh] = [box.w, box.h];
  if (!box.panels.length) return;
  if (folded.has(box.n)) {
    [box.nw, box.nh] = [box.fw, box.fh];
    return;
  }
  const across = { free: [], solid: [] }, down = { free: [], solid: [] };
  for (const number of box.panels) {
    const panel = DATA.panels[number], inside = DATA.drawings[panel.d];
    settle(inside);
    panel.nw = Math.max(panel.w - (inside.w - inside.nw), Math.min(panel.least, panel.w));
    panel.nh = panel.h - (inside.h - inside.nh);
    across.solid.push([panel.x, panel.x + panel.nw]);
    across.free.push([panel.x + panel.nw, panel.x + panel.w]);
    down.solid.push([panel.y, panel.y + panel.nh]);
    down.free.push([panel.y + panel.nh, panel.y + panel.h]);
  }
  const toX = squeeze(across.free, across.solid), toY = squeeze(down.free, down.solid);
  for (const number of box.panels) {
    const panel = DATA.panels[number];
    [panel.nx, panel.ny] = [toX(panel.x), toY(panel.y)];
  }
  box.nw = Math.max(Math.min(box.fw, box.w), toX(box.w));
  box.nh = toY(box.h);
}

// ---- on the screen --------------------------------------------------------------------------------------------------
const one = (number) => number.toFixed(1);

function wire(line) {
  const upper = DATA.boxes[line.back ? line.t : line.s], lower = DATA.boxes[line.back ? line.s : line.t];
  let x = upper.nx + (line.ox * upper.nw) / upper.w, y = upper.ny + upper.nh;
  const points = [[x, Math.max(y, line.nbottom)]];
  for (const [at, top, bottom] of line.nbends) points.push([at, top], [at, bottom]);
  points.push([lower.nx + (line.ix * lower.nw) / lower.w, lower.ny]);
  const last = points[points.length - 1];
  const tip = line.back ? `M${one(x)} ${one(y)}l-4 ${TIP}h8z` : `M${one(last[0])} ${one(last[1])}l-4 -${TIP}h8z`;
  if (line.back) y += TIP;
  else last[1] -= TIP;
  let path = `M${one(x)} ${one(y)}`;
  for (const [toX, toY] of points) {
    const half = (toY - y) / 2;
    path += Math.abs(toX - x) < 0.05 ? `V${one(toY)}` : `C${one(x)} ${one(y + half)} ${one(toX)} ${one(toY - half)} ${one(toX)} ${one(toY)}`;
    [x, y] = [toX, toY];
  }
  return [path, tip];
}

function show(drawing) {
  for (const number of drawing.lines) {
    const line = DATA.lines[number], element = document.getElementById(`l${number}`);
    if (!element) continue;
    const [path, tip] = wire(line);
    element.firstChild.setAttribute("d", path);
    element.lastChild.setAttribute("d", tip);
  }
  for (const number of drawing.boxes) showBox(DATA.boxes[number]);
}

function showBox(box) {
  const element = document.getElementById(`b${box.n}`), closed = folded.has(box.n);
  element.setAttribute("transform", `translate(${one(box.nx)} ${one(box.ny)})`);
  if (!box.panels.length) return;
  element.setAttribute("aria-expanded", String(!closed));
  for (const part of element.children) {
    const kind = part.classList;
    if (kind.contains("frame") || kind.contains("heat")) part.setAttribute("width", one(box.nw));
    if (kind.contains("frame")) part.setAttribute("height", one(box.nh));
    if (kind.contains("ring")) part.setAttribute("width", one(box.nw + 8)), part.setAttribute("height", one(box.nh + 8));
    if (kind.contains("badge")) part.setAttribute("transform", `translate(${one(box.nw - 14)} 14)`);
    if (kind.contains("fold")) part.setAttribute("transform", `translate(${one(box.nw - box.w)} 0)`);
    if (kind.contains("slot")) {
      part.dataset.x ??= part.getAttribute("x");
      part.setAttribute("x", one((part.dataset.x * box.nw) / box.w));
      if (kind.contains("output")) part.setAttribute("y", one(box.nh - 5));
    }
    if (kind.contains("panel")) part.classList.toggle("closed", closed);
  }
  let words = element.querySelector(":scope > .count");
  if (closed && !words) {
    words = document.createElementNS("http://www.w3.org/2000/svg", "text");
    words.setAttribute("class", "count");
    words.setAttribute("x", "12");
    words.setAttribute("y", one(box.head + 6));
    words.textContent = `▸ ${box.inner.toLocaleString("en")} node${box.inner === 1 ? "" : "s"} folded`;
    element.append(words);
  } else if (!closed && words) words.remove();
  if (closed) return;
  for (const number of box.panels) {
    const panel = DATA.panels[number], frame = document.getElementById(`p${number}`);
    frame.setAttribute("transform", `translate(${one(panel.nx)} ${one(panel.ny)})`);
    frame.firstChild.setAttribute("width", one(panel.nw));
    frame.firstChild.setAttribute("height", one(panel.nh));
    show(DATA.drawings[panel.d]);
  }
}
