// What is said about one node, about the run, and about the signs of the picture. Text of a program is only ever set as text.

const details = document.getElementById("details");
let chosen = null;

function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits });
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

function time(seconds) {
  if (seconds < 1) return seconds >= 0.01 || !seconds ? `${(seconds * 1e3).toFixed(0)} ms` : `${(seconds * 1e3).toPrecision(2)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} m ${String(whole % 60).padStart(2, "0")} s` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} m`;
}

function table(rows) {
  return make("table", {}, make("tbody", {}, ...rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)))));
}

// `code` of the operation table as code.
const marked = (text) => text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));
const link = (box, text = box.name) => make("button", { class: "link", type: "button", onclick: () => open(box, true) }, text);

// ---- one node -------------------------------------------------------------------------------------------------------
function open(box, go = false) {
  close();
  chosen = box;
  const element = document.getElementById(`b${box.n}`);
  details.replaceChildren(...described(box));
  details.hidden = false;
  details.scrollTop = 0;
  reveal(box, go);
  element.classList.add("chosen");
  for (const at of [...box.in, ...box.out]) document.getElementById(`l${at}`)?.classList.add("near");
  if (go) element.focus({ preventScroll: true });
  drawTimes();
}

function close() {
  if (!chosen) return;
  document.getElementById(`b${chosen.n}`).classList.remove("chosen");
  for (const line of stage.querySelectorAll(".line.near")) line.classList.remove("near");
  chosen = null;
  details.hidden = true;
  drawTimes();
}

function* described(box) {
  const shut = make("button", { type: "button", "aria-label": "Close details", title: "Close (Esc)", onclick: dismiss }, "✕");
  yield make("div", { class: "top" }, make("h2", {}, box.name), shut);
  if (box.type) {
    yield make("p", {}, `Parameter of type ${box.type}.`);
  } else {
    const row = DATA.ops[box.op];
    yield make("p", {}, make("strong", {}, box.op), ` · node ${box.id}${box.exit ? " · exit" : ""}`);
    if (row) yield make("p", { class: "soft" }, ...marked(row.doc));
    yield table([["category", row ? row.category.replace("_", " ") : "unknown"], ["effect", box.effect], ["in", box.where]]);
    yield make("div", { class: "actions" }, ...actions(box));
  }
  if (box.mark) yield* happened(box.mark);
  else if (DATA.run && !box.type) yield make("p", { class: "soft" }, "Nothing happened here in this run.");
  if (box.in.length) yield* ends("Inputs", box.in, "s", "from");
  if (box.out.length) yield* ends("Outputs", box.out, "t", "to");
  if (box.attributes?.length) {
    yield make("h3", {}, "Attributes");
    yield table(box.attributes.map(([name, value]) => [name, make("pre", {}, value)]));
  }
  if (box.panels.length) {
    yield make("h3", {}, "Regions");
    yield table(box.panels.map((at) => [DATA.panels[at].name, regionText(DATA.panels[at])]));
  }
}

function actions(box) {
  const buttons = [make("button", { type: "button", onclick: () => reveal(box, true) }, "Show")];
  if (box.panels.length)
    buttons.push(make("button", { type: "button", onclick: () => (toggle(box), open(box)) }, folded.has(box.n) ? "Unfold" : "Fold"));
  if (box.calls >= 0) buttons.push(make("button", { type: "button", onclick: () => (close(), choose(box.calls)) }, "Open the flow"));
  return buttons;
}

function regionText(panel) {
  const takes = panel.takes.length ? `takes ${panel.takes.join(", ")}; ` : "";
  return takes + (panel.folded ? `${plural(panel.folded, "node")}, not drawn` : plural(panel.inner, "node"));
}

function* ends(title, lines, end, word) {
  yield make("h3", {}, title);
  yield table(
    lines.map((at) => {
      const line = DATA.lines[at], other = DATA.boxes[line[end]];
      const said = [line.k === "data" ? null : line.k, line.port ? `port ${line.port}` : null, line.label ? `label ${line.label}` : null, line.drawn ? null : "line not drawn"];
      return [word, make("span", {}, link(other), make("span", { class: "soft" }, [" ", ...said.filter(Boolean).join(", ")].join("")))];
    }),
  );
}

function* happened(mark) {
  yield make("h3", {}, "In this run");
  const rows = Object.entries(mark.count).map(([outcome, count]) => [outcome, plural(count, "firing")]);
  if (mark.total_ms) rows.push(["time", `${time(mark.total_ms / 1e3)} in all, ${time(mark.max_ms / 1e3)} at most`]);
  if (mark.retries) rows.push(["retries", number(mark.retries)]);
  if (mark.fallbacks) rows.push(["fallback used", plural(mark.fallbacks, "time")]);
  if (mark.calls) rows.push(["calls", number(mark.calls)]);
  for (const [name, amount] of Object.entries(mark.usage)) rows.push([name.replaceAll("_", " "), number(amount, 6)]);
  if (mark.critical) rows.push(["critical path", "this node is on it"]);
  if (mark.error) rows.push(["error", make("pre", {}, mark.error)]);
  yield table(rows);
}

// ---- the run --------------------------------------------------------------------------------------------------------
function summary(run) {
  const place = document.getElementById("summary");
  for (const [name, value, outcome] of run.facts) {
    const sign = outcome && DATA.badges[outcome] ? badge(outcome) : null;
    place.append(make("div", {}, make("dt", {}, name), make("dd", {}, ...[sign, value].filter((part) => part !== null))));
  }
  place.hidden = false;
}

function svg(inner, viewBox = "0 0 34 20", classes = "apxm-picture") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  element.setAttribute("viewBox", viewBox);
  element.setAttribute("class", classes);
  element.setAttribute("aria-hidden", "true");
  element.innerHTML = inner; // only ever signs of this page, no text of a program
  return element;
}

function badge(outcome) {
  const sign = svg(`<g class="badge ${outcome}">${DATA.badges[outcome]}</g>`, "-11 -11 22 22");
  sign.setAttribute("width", "18");
  sign.setAttribute("height", "18");
  return sign;
}

// ---- the legend -----------------------------------------------------------------------------------------------------
function legend() {
  const place = document.querySelector("#keys .inside");
  const add = (sign, text) => place.append(sign, make("span", {}, text));
  for (const [kind, text] of [["data", "data: carries a value"], ["control", "control: gates"], ["effect", "effect: only orders"], ["data error", "error: live on failure"]])
    if (DATA.kinds.includes(kind)) add(svg(`<g class="line ${kind}"><path class="wire" d="M4 10H22"/><path class="tip" d="M30 10l-7 -4v8z"/></g>`), text);
  for (const [name, text] of DATA.categories) add(svg(`<g class="box ${name}"><rect class="frame" x="3" y="2" width="28" height="16" rx="4"/><path class="stripe" d="M6 5V15"/></g>`), text);
  add(svg('<g class="box parameter"><rect class="frame" x="2" y="3" width="30" height="14" rx="7"/></g>'), "parameter");
  add(svg('<text class="slot output leaves" x="1" y="14">▸exit</text>'), "a value that leaves");
  if (DATA.run) {
    for (const outcome of DATA.outcomes) add(badge(outcome), outcome);
    add(svg('<rect class="bar" x="2" y="8" width="26" height="4"/>'), "share of the longest time");
    add(svg('<g class="line critical"><path class="wire" d="M3 10H31"/></g>'), "critical path");
  }
  for (const [key, text] of [["+ − 0", "zoom, fit"], ["Tab Enter", "to a node, open it"], ["arrows", "along the edges"], ["Space", "fold, unfold"], ["/", "find"], ["Esc", "close details"]])
    add(make("kbd", {}, key), text);
}
