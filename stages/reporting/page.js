"use strict";
// Text of models and data sets is hostile: it only ever becomes textContent.

const root = document.documentElement;
const figures = JSON.parse(document.getElementById("figures").textContent);

// ------------------------------------------------------------------------------------- theme

function setTheme(theme) {
  root.dataset.theme = theme;
  draw();
}

function stored(theme) {
  try {
    if (theme) localStorage.setItem("theme", theme);
    return localStorage.getItem("theme");
  } catch {
    return null; // some browsers store nothing for local files
  }
}

document.getElementById("theme").addEventListener("click", () => {
  const theme = root.dataset.theme === "dark" ? "light" : "dark";
  stored(theme);
  setTheme(theme);
});
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => stored() || setTheme(dark.matches ? "dark" : "light"));

// ----------------------------------------------------------------------------------- figures

function draw() {
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--line"), zeroline: false, zerolinecolor: colour("--soft"), linecolor: colour("--line"),
    tickcolor: colour("--line"), automargin: true };
  for (const [id, figure] of Object.entries(figures)) {
    const element = document.getElementById(id);
    if (!element) continue;
    const layout = { ...figure.layout, font: { color: colour("--ink"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      hoverlabel: { ...figure.layout.hoverlabel, bgcolor: colour("--card"), bordercolor: colour("--line"),
        font: { color: colour("--ink") } } };
    for (const name of ["xaxis", "yaxis"]) layout[name] = { ...axis, ...figure.layout[name] };
    Plotly.react(element, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }
}

// ---------------------------------------------------------------------------------- examples

const ROW = 56;
let all = [];
let shown = [];
let chosen = null;
let due; // the search scheduled while typing

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function accuracy(example) {
  const known = example.traces.map((t) => t.accuracy).filter((a) => a !== null);
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}

function prepare(example) {
  example.accuracy = accuracy(example);
  example.text = [example.id, example.question, example.hint ?? "", ...example.traces.map((t) => t.text)].join("\n").toLowerCase();
  return example;
}

const FILTERS = {
  all: () => true,
  selected: (e) => e.traces.some((t) => t.selected),
  some: (e) => e.accuracy > 0 && e.accuracy < 1,
  never: (e) => e.accuracy === 0,
  always: (e) => e.accuracy === 1,
  error: (e) => e.traces.some((t) => t.verdicts.includes("e")),
};

function search() {
  clearTimeout(due); // a late search would scroll back to the top
  const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const keep = FILTERS[document.getElementById("filter").value];
  shown = all.filter((e) => keep(e) && words.every((w) => e.text.includes(w)));
  document.getElementById("found").textContent = `${shown.length.toLocaleString("en")} of ${all.length.toLocaleString("en")}`;
  document.getElementById("rows").style.height = `${shown.length * ROW}px`;
  document.getElementById("list").scrollTop = 0;
  if (shown.length) choose(shown.includes(chosen) ? chosen : shown[0]);
  else renderRows();
}

// Only visible rows are in the page, so that 10,000 scroll as fast as ten.
function renderRows() {
  const list = document.getElementById("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW) + 8);
  const rows = shown.slice(first, last).map((example, i) => {
    const row = node("div", "row");
    row.style.top = `${(first + i) * ROW}px`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(example === chosen));
    row.append(node("b", "", example.question.slice(0, 160)));
    const right = example.accuracy === null ? "" : ` · ${Math.round(100 * example.accuracy)} % correct`;
    const kept = example.traces.filter((t) => t.selected).length;
    row.append(node("span", "", `${example.id}${right} · ${kept} of ${example.traces.length} selected`));
    row.addEventListener("click", () => choose(example));
    return row;
  });
  document.getElementById("rows").replaceChildren(...rows);
}

function choose(example) {
  chosen = example;
  const facts = document.createElement("dl");
  for (const [name, value] of [["question", example.question], ["hint", example.hint ?? "–"], ["id", example.id], ["source", example.source]]) {
    facts.append(node("dt", "", name), marked("dd", value));
  }
  document.getElementById("example").replaceChildren(facts, ...example.traces.map(traceCard));
  document.getElementById("example").scrollTop = 0;
  renderRows();
}

function traceCard(trace) {
  const card = node("div", trace.selected ? "trace selected" : "trace");
  const head = document.createElement("header");
  head.append(node("b", "", `trace ${trace.k}`), labelled("weight", trace.weight));
  if (trace.selected) head.append(node("b", "", "selected"));
  if (trace.excluded) head.append(node("span", "", `no candidate: ${trace.excluded.replaceAll("_", " ")}`));
  head.append(labelled("log ratio", trace.ratio), labelled("log answer", trace.answer), node("span", "", `${trace.tokens} tokens`));
  if (trace.verdicts) {
    const verdicts = node("span", "", "answers ");
    for (const v of trace.verdicts) {
      const mark = node("b", v, { c: "✓", i: "✗", e: "?" }[v]);
      mark.title = { c: "correct", i: "incorrect", e: "verifier error" }[v];
      verdicts.append(mark);
    }
    head.append(verdicts);
  }
  card.append(head, marked("pre", trace.text));
  return card;
}

function labelled(name, value) {
  const shown = typeof value === "number" ? Number(value.toPrecision(3)).toString().replace("-", "−") : value ?? "–";
  return node("span", "", `${name} ${shown}`);
}

function node(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function marked(tag, text) {
  const made = document.createElement(tag);
  const word = document.getElementById("search").value.trim().toLowerCase().split(/\s+/)[0];
  const lower = text.toLowerCase();
  if (!word || lower.length !== text.length) return Object.assign(made, { textContent: text });
  let from = 0;
  for (let at = lower.indexOf(word); at >= 0; at = lower.indexOf(word, from)) {
    made.append(text.slice(from, at), node("mark", "", text.slice(at, at + word.length)));
    from = at + word.length;
  }
  made.append(text.slice(from));
  return made;
}

function move(step) {
  const at = Math.max(0, Math.min(shown.length - 1, shown.indexOf(chosen) + step));
  if (!shown.length) return;
  const list = document.getElementById("list");
  if (at * ROW < list.scrollTop) list.scrollTop = at * ROW;
  if ((at + 1) * ROW > list.scrollTop + list.clientHeight) list.scrollTop = (at + 1) * ROW - list.clientHeight;
  choose(shown[at]);
}

async function examples() {
  const packed = document.getElementById("packed");
  if (!packed) return;
  all = (await unpack(packed.textContent)).map(prepare);
  document.getElementById("search").addEventListener("input", () => {
    clearTimeout(due);
    due = setTimeout(search, 60);
  });
  document.getElementById("filter").addEventListener("change", search);
  const list = document.getElementById("list");
  list.addEventListener("scroll", renderRows, { passive: true });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step) { event.preventDefault(); move(step); }
  });
  search();
}

setTheme(stored() ?? (dark.matches ? "dark" : "light"));
examples().finally(() => { root.dataset.ready = "yes"; });
