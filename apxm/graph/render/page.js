// Joins the parts of the page: search, keys, buttons, and how it begins.

const search = document.getElementById("search");
const found = document.getElementById("found");
let hits = [], hit = -1;

function look() {
  for (const box of hits) document.getElementById(`b${box.n}`)?.classList.remove("hit");
  const word = search.value.trim().toLowerCase();
  hits = word ? DATA.boxes.filter((box) => box.name.toLowerCase().includes(word) || (box.op ?? "").toLowerCase() === word || box.said.toLowerCase().includes(word)) : [];
  for (const box of hits) document.getElementById(`b${box.n}`)?.classList.add("hit");
  hit = -1;
  found.textContent = word ? (hits.length ? `${hits.length} found` : "none") : "";
}

function next(step) {
  if (!hits.length) return;
  hit = (hit + step + hits.length) % hits.length;
  found.textContent = `${hit + 1} of ${hits.length}`;
  open(hits[hit]);
  reveal(hits[hit], true);
}

function dismiss() {
  const box = chosen;
  close();
  if (box && details.contains(document.activeElement)) document.getElementById(`b${box.n}`).focus({ preventScroll: true });
}

const boxOf = (element) => {
  const holder = element?.closest?.(".box");
  return holder && stage.contains(holder) ? DATA.boxes[Number(holder.id.slice(1))] : null;
};

stage.addEventListener("click", (event) => {
  if (dragged > 4) return;
  const box = boxOf(event.target);
  if (!box) return close();
  if (event.target.closest(".fold") || event.target.closest(".count")) return toggle(box);
  open(box);
});
stage.addEventListener("dblclick", (event) => {
  const box = boxOf(event.target);
  if (box?.panels.length) toggle(box);
  else if (!box) zoom(1.6, event.offsetX, event.offsetY);
});
stage.addEventListener("focusin", (event) => {
  const box = boxOf(event.target);
  if (box && event.target.matches(":focus-visible")) reveal(box);
});

// From a node along its edges: down and up to what it feeds and what feeds it, left and right to what stands beside it.
function walk(box, key) {
  const lines = key === "ArrowDown" ? box.out : key === "ArrowUp" ? box.in : null;
  if (lines) return lines.map((at) => DATA.boxes[DATA.lines[at][key === "ArrowDown" ? "t" : "s"]]).find((other) => !other.type);
  const beside = DATA.drawings[box.d].boxes.map((at) => DATA.boxes[at]).filter((other) => !other.type && Math.abs(other.ny - box.ny) < 1);
  beside.sort((a, b) => a.nx - b.nx);
  return beside[beside.indexOf(box) + (key === "ArrowRight" ? 1 : -1)];
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (event.target === search && search.value) (search.value = ""), look();
    return dismiss();
  }
  if (event.target.matches("input, select, textarea") || (event.target.matches("button, summary") && /^(Enter| )$/.test(event.key))) return;
  const box = boxOf(document.activeElement), step = 60;
  const act = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: () => fit(), "/": () => search.focus(),
    Enter: box && (() => open(box)), " ": box && (() => (box.panels.length ? toggle(box) : open(box))),
    ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0), ArrowUp: () => pan(0, step), ArrowDown: () => pan(0, -step),
  }[event.key];
  if (!act || (event.key.startsWith("Arrow") && !stage.contains(document.activeElement) && document.activeElement !== document.body)) return;
  event.preventDefault();
  const other = box && event.key.startsWith("Arrow") ? walk(box, event.key) : null;
  if (other) document.getElementById(`b${other.n}`).focus({ preventScroll: true });
  else if (!box || !event.key.startsWith("Arrow")) act();
}

function begin() {
  document.body.classList.remove("plain");
  for (const picture of pictures) {
    picture.removeAttribute("viewBox");
    picture.removeAttribute("width");
    picture.removeAttribute("height");
  }
  for (const flow of DATA.flows) settle(DATA.drawings[flow.d]);
  const select = document.getElementById("flow");
  DATA.flows.forEach((flow, at) => select.append(make("option", { value: String(at) }, flow.name)));
  document.getElementById("flows").hidden = DATA.flows.length < 2;
  document.getElementById("folds").hidden = !DATA.panels.length;
  select.addEventListener("change", () => (close(), choose(Number(select.value))));
  for (const note of DATA.notes) document.getElementById("notes").append(make("p", { class: "said" }, note));
  legend();
  if (DATA.run) {
    summary(DATA.run);
    timeline();
  }
  const mode = document.getElementById("mode");
  document.getElementById("modes").hidden = !DATA.run;
  mode.value = DATA.run ? "outcome" : "kind";
  const paint = () => ["outcome", "time"].forEach((name) => stage.classList.toggle(`by-${name}`, mode.value === name));
  mode.addEventListener("change", paint);
  paint();
  document.getElementById("in").addEventListener("click", () => zoom(1.25));
  document.getElementById("out").addEventListener("click", () => zoom(0.8));
  document.getElementById("fit").addEventListener("click", () => fit());
  document.getElementById("fold-all").addEventListener("click", () => foldAll(true));
  document.getElementById("unfold-all").addEventListener("click", () => foldAll(false));
  search.addEventListener("input", look);
  search.addEventListener("keydown", (event) => event.key === "Enter" && next(event.shiftKey ? -1 : 1));
  document.addEventListener("keydown", press);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawTimes());
  new ResizeObserver(() => drawTimes()).observe(stage);
  choose(0);
}

begin();
