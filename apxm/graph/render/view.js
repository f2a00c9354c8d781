// What is seen of the picture: which flow, which part of it, how large. Moves nothing within it.

const stage = document.getElementById("stage");
const pictures = [...stage.querySelectorAll("svg")];
const view = { flow: 0, x: 0, y: 0, k: 1 };
const views = new Map(); // of flows that were looked at before
const ZOOM_MIN = 0.02, ZOOM_MAX = 4;

const rootOf = (flow) => DATA.drawings[DATA.flows[flow].d];

function moved() {
  const picture = pictures[view.flow];
  if (!picture) return;
  picture.lastElementChild.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
  stage.classList.toggle("far", view.k < 0.42);
  stage.classList.toggle("very-far", view.k < 0.16);
}

function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const k = Math.min(Math.max(view.k * factor, ZOOM_MIN), ZOOM_MAX);
  view.x = x - ((x - view.x) * k) / view.k;
  view.y = y - ((y - view.y) * k) / view.k;
  view.k = k;
  moved();
}

function pan(dx, dy) {
  view.x += dx;
  view.y += dy;
  moved();
}

// All of the flow; of one that would be unreadable as a whole, its beginning.
function fit(whole = true) {
  const { nw, nh } = rootOf(view.flow), pad = 24;
  const all = Math.min((stage.clientWidth - 2 * pad) / nw, (stage.clientHeight - 2 * pad) / nh, 1.25);
  const k = whole ? all : Math.min(Math.max(all, 0.85), Math.max((stage.clientWidth - 2 * pad) / nw, 0.5), 1.25);
  view.k = Math.max(k, ZOOM_MIN);
  view.x = (stage.clientWidth - nw * view.k) / 2;
  if (nw * view.k > stage.clientWidth - 2 * pad) view.x = pad;
  view.y = nh * view.k > stage.clientHeight - 2 * pad ? pad : (stage.clientHeight - nh * view.k) / 2;
  moved();
}

function choose(flow) {
  if (view.flow !== flow) views.set(view.flow, { ...view });
  pictures.forEach((picture, at) => (picture.style.display = at === flow ? "" : "none"));
  document.getElementById("flow").value = String(flow);
  const before = views.get(flow);
  view.flow = flow;
  if (before) {
    Object.assign(view, before);
    moved();
  } else fit(false);
}

// The place of a box in its flow, with the drawings around it.
function placeOf(box) {
  let [x, y] = [box.nx, box.ny];
  for (let at = DATA.drawings[box.d]; at.panel >= 0; ) {
    const panel = DATA.panels[at.panel], outer = DATA.boxes[panel.b];
    x += outer.nx + panel.nx + DATA.inset[0];
    y += outer.ny + panel.ny + DATA.inset[1];
    at = DATA.drawings[outer.d];
  }
  return [x, y];
}

// Bring a box into view, unless it is there already; of one that is larger than the window, its name.
function reveal(box, firmly = false) {
  if (DATA.drawings[box.d].flow !== view.flow) choose(DATA.drawings[box.d].flow);
  let hidden = false;
  for (let at = DATA.drawings[box.d]; at.panel >= 0; at = DATA.drawings[DATA.boxes[DATA.panels[at.panel].b].d])
    hidden = folded.delete(DATA.panels[at.panel].b) || hidden;
  if (hidden) refold();
  if (firmly && view.k < 0.6) view.k = 0.9;
  const sheet = !details.hidden && getComputedStyle(details).position === "absolute" ? details.offsetHeight : 0; // lies over it
  const [x, y] = placeOf(box), edge = 16, room = [stage.clientWidth, stage.clientHeight - sheet];
  const start = [view.x + x * view.k, view.y + y * view.k], long = [box.nw * view.k, Math.min(box.nh, box.head + 20) * view.k];
  const shift = [0, 1].map((axis) => {
    const fits = long[axis] <= room[axis] - 2 * edge, inside = start[axis] >= edge && start[axis] + (fits ? long[axis] : 80) <= room[axis] - edge;
    return inside ? 0 : (fits ? (room[axis] - long[axis]) / 2 : edge) - start[axis];
  });
  pan(...shift);
}

function refold() {
  const drawing = rootOf(view.flow);
  settle(drawing);
  show(drawing);
}

// Fold or unfold one box; it stays where it is on the screen.
function toggle(box) {
  const before = placeOf(box);
  if (!folded.delete(box.n)) folded.add(box.n);
  refold();
  const after = placeOf(box);
  pan((before[0] - after[0]) * view.k, (before[1] - after[1]) * view.k);
}

function foldAll(close) {
  for (const box of DATA.boxes) {
    if (!box.panels.length || DATA.drawings[box.d].flow !== view.flow) continue;
    if (close) folded.add(box.n);
    else folded.delete(box.n);
  }
  refold();
  fit(false);
}

// ---- by mouse, finger and wheel -----------------------------------------------------------------------------------------
const pointers = new Map();
let dragged = 0;

function spread() {
  const [a, b] = [...pointers.values()];
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, far: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
}

function follow(event) {
  const at = pointers.get(event.pointerId);
  if (!at) return;
  const before = pointers.size === 2 ? spread() : null;
  const [dx, dy] = [event.clientX - at.x, event.clientY - at.y];
  dragged += Math.abs(dx) + Math.abs(dy);
  if (dragged > 4 && !stage.hasPointerCapture(event.pointerId)) {
    stage.setPointerCapture(event.pointerId);
    stage.classList.add("dragging");
  }
  Object.assign(at, { x: event.clientX, y: event.clientY });
  if (before) {
    const after = spread(), box = stage.getBoundingClientRect();
    pan(after.x - before.x, after.y - before.y);
    zoom(after.far / before.far, after.x - box.left, after.y - box.top);
  } else if (pointers.size === 1 && dragged > 4) pan(dx, dy);
}

function release(event) {
  pointers.delete(event.pointerId);
  if (!pointers.size) stage.classList.remove("dragging");
}

stage.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  if (!pointers.size) dragged = 0;
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
});
stage.addEventListener("pointermove", follow);
stage.addEventListener("pointerup", release);
stage.addEventListener("pointercancel", release);
stage.addEventListener("pointerleave", (event) => stage.hasPointerCapture(event.pointerId) || release(event));
stage.addEventListener("scroll", () => stage.scrollTo(0, 0)); // a browser scrolls to what has the focus: `reveal` does that
stage.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect(), unit = event.deltaMode === 1 ? 18 : 1;
    zoom(Math.exp(-Math.max(Math.min(event.deltaY * unit, 240), -240) * 0.0022), event.clientX - box.left, event.clientY - box.top);
  },
  { passive: false },
);
