"use strict";
// Shows an evaluation when a link leads to it: #RUN/LANG, and #RUN/LANG?GOLD/PREDICTED for the texts of one cell; and
// the choices above the matrices. Texts and names come into the page as text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const words = data.words;
const overview = document.getElementById("overview");
const article = document.getElementById("evaluation");
const title = document.title;
const FIRST = 10, AT_ONCE = 50; // errors shown, and so many more each time

// of an evaluation: the places of these in its array
const SET = 0, COUNTS = 1, SCORES = 2, BOUNDS = 3, REGISTERS = 4, KEYS = 5, VALUES = 6, WARNINGS = 7, FILE = 8, ERRORS = 9;

const evaluations = new Map(); // RUN/LANG -> [run's number, language]
data.runs.forEach((run, number) => {
  for (const lang of Object.keys(run.evaluations)) evaluations.set(`${run.key}/${lang}`, [number, lang]);
});
const gridOf = new Map(); // run's number -> [grid, row's number]
data.grids.forEach((grid) => grid.rows.forEach((row, i) => row.runs.forEach((run) => gridOf.set(run, [grid, i]))));

// ---- elements, words and numbers ----

function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) if (value !== null) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function say(key, values) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function decimal(tenths) { // of a score x 100, kept as a whole number of tenths
  if (tenths === null) return "–";
  const text = `${Math.floor(Math.abs(tenths) / 10)}.${Math.abs(tenths) % 10}`;
  return localised(tenths < 0 ? `−${text}` : text);
}

function signed(tenths) { return tenths > 0 ? `+${decimal(tenths)}` : decimal(tenths); }

function localised(text) { return data.lang === "fr" ? text.replace(".", ",") : text; }

function percent(part, whole) { // a half goes to the even number, as in the figures
  const value = 100 * (part / whole), low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
}

function range(bounds) { return bounds[0] === null ? "" : `${decimal(bounds[0])}–${decimal(bounds[1])}`; }

function language(lang) {
  const name = data.languages[lang] || lang;
  return name === lang ? lang : `${name} (${lang})`;
}

function register(name) {
  const full = data.registers[name];
  return full === name ? name : `${name} ${full}`;
}

function place(run, lang, gold, predicted) {
  const cell = gold === undefined ? "" : `?${encodeURIComponent(gold)}/${encodeURIComponent(predicted)}`;
  return `#${run.key}/${lang}${cell}`;
}

function heads(...names) {
  return el("thead", null, el("tr", null, ...names.map((name) => el("th", { scope: "col" }, name))));
}

function scrolled(table) {
  const caption = table.querySelector("caption");
  return el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption.textContent }, table);
}

function gold(evaluation) {
  const n = data.sets[evaluation[SET]].length;
  return Array.from({ length: n }, (_, i) => evaluation[COUNTS].slice(i * n, (i + 1) * n).reduce((a, b) => a + b, 0));
}

// ---- an evaluation ----

function showEvaluation(number, lang, cell) {
  const run = data.runs[number], evaluation = run.evaluations[lang], [grid, row] = gridOf.get(number);
  const model = grid.subfolder ? `${grid.subfolder}/${run.model}` : run.model;
  const heading = say("heading", { mix: run.mix, lang: language(lang) });
  const warnings = [...evaluation[WARNINGS].map(([, sentence]) => data.strings[sentence]), ...run.warnings];
  const kind = run.langs.includes(lang) ? words["in training"] : run.langs.includes("distr") ? words.maybe : words["zero-shot"];
  const n = gold(evaluation).reduce((a, b) => a + b, 0);
  const trained = run.langs.map(language).join(", ");
  const parts = [
    el("p", null, el("a", { href: "#matrices", id: "back" }, `← ${words.back}`)),
    el("h2", { tabindex: "-1" }, heading),
    el("p", null, [say("described", { model, trained }), `n = ${n}`, kind].join(words.semicolon)),
    otherTrainings(grid, row, number, lang),
    warnings.length ? el("section", { class: "warnings" }, el("h3", null, words.warnings),
      el("ul", null, ...warnings.map((sentence) => el("li", null, sentence)))) : null,
    el("div", { class: "pair" }, scores(evaluation), mostConfused(run, evaluation, lang)),
    el("div", { class: "pair" }, confusion(run, evaluation, lang, cell), registers(run, evaluation)),
    texts(run, evaluation, lang, cell),
    column(grid, row, lang),
    rowOf(run, lang),
    signature(run, evaluation, lang),
  ];
  article.replaceChildren(...parts.filter((part) => part !== null));
  document.title = `${heading} – ${title}`;
  return heading;
}

function otherTrainings(grid, row, number, lang) {
  const others = grid.rows[row].runs.filter((other) => data.runs[other].evaluations[lang]);
  if (others.length < 2) return null;
  const links = others.flatMap((other, i) => [
    i ? ", " : "",
    el("a", { href: place(data.runs[other], lang), "aria-current": other === number ? "page" : null },
      `${data.runs[other].base} ${decimal(data.runs[other].evaluations[lang][SCORES][1])}`),
  ]);
  return el("p", null, `${words.trainings} (${data.metrics[1][1]})${words.colon}`, ...links);
}

function scores(evaluation) {
  const rows = data.metrics.map(([, name], i) => el("tr", null,
    el("th", { scope: "row" }, name),
    el("td", null, evaluation[SCORES][i] === null ? words["too few"] : decimal(evaluation[SCORES][i])),
    el("td", null, range(evaluation[BOUNDS][i]))));
  return scrolled(el("table", null, el("caption", null, words.scores), heads(words.metric, words.score, words.interval),
    el("tbody", null, ...rows)));
}

function mostConfused(run, evaluation, lang) {
  const names = data.sets[evaluation[SET]], counts = evaluation[COUNTS], n = names.length, pairs = [];
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      const one = counts[i * n + j], other = counts[j * n + i];
      if (one + other) pairs.push([one + other, i, j, one, other]);
    }
  }
  pairs.sort((a, b) => b[0] - a[0] || a[1] - b[1] || a[2] - b[2]);
  const way = (i, j, count) => count ? el("a", { href: place(run, lang, names[i], names[j]) },
    say("as", { a: names[i], b: names[j], n: count })) : say("as", { a: names[i], b: names[j], n: count });
  const entries = pairs.slice(0, 3).map(([sum, i, j, one, other]) => el("li", null,
    say("pair", { a: register(names[i]), b: register(names[j]), n: sum }), " (", way(i, j, one), words.semicolon, way(j, i, other), ")"));
  return el("section", null, el("h3", null, words["most confused"]),
    entries.length ? el("ol", null, ...entries) : el("p", null, words["no error"]));
}

function confusion(run, evaluation, lang, cell) {
  const names = data.sets[evaluation[SET]], counts = evaluation[COUNTS], n = names.length, totals = gold(evaluation);
  const rows = names.map((name, i) => el("tr", null,
    el("th", { scope: "row" }, register(name), el("small", null, ` (${totals[i]})`)),
    ...names.map((predicted, j) => {
      const count = counts[i * n + j];
      if (!totals[i]) return el("td", { class: "none" });
      const shade = `b${Math.round((count / totals[i]) * data.shades)}`;
      const isChosen = cell && cell[0] === name && cell[1] === predicted;
      const lines = count ? [el("b", null, String(percent(count, totals[i]))), " ", el("small", null, `(${count})`)] : [];
      const inside = count && i !== j
        ? el("a", { href: place(run, lang, name, predicted), "aria-label": say("as", { a: name, b: predicted, n: count }) }, ...lines)
        : el("span", null, ...lines);
      return el("td", { class: isChosen ? `${shade} chosen` : shade }, inside);
    })));
  const table = el("table", { class: "confusion" }, el("caption", null, words.confusion),
    heads(words["gold predicted"], ...names), el("tbody", null, ...rows));
  return el("div", null, scrolled(table), el("p", { class: "note" }, words["confusion note"]));
}

function registers(run, evaluation) {
  const names = data.sets[evaluation[SET]], totals = gold(evaluation), [precision, recall, f1] = evaluation[REGISTERS];
  const rows = names.map((name, i) => {
    const trained = Object.values(run.train).reduce((sum, counts) => sum + (counts[name] || 0), 0);
    const few = totals[i] < data.minTexts;
    return el("tr", { class: few ? "few" : null },
      el("th", { scope: "row" }, register(name), few && totals[i] ? el("span", { class: "mark", title: words.few },
        "!", el("span", { class: "unseen" }, ` ${words["too few"]}`)) : null),
      ...[precision, recall, f1].map((values) => el("td", null, decimal(values[i]))),
      el("td", null, String(totals[i])), el("td", null, String(trained)));
  });
  return scrolled(el("table", null, el("caption", null, words["of the registers"]),
    heads(words.register, words.precision, words.recall, "F1", words.support, words["training texts"]),
    el("tbody", null, ...rows)));
}

function texts(run, evaluation, lang, cell) {
  const names = data.sets[evaluation[SET]], n = names.length, flat = evaluation[ERRORS];
  const known = data.texts[evaluation[FILE]] || {};
  const section = el("section", { id: "errors", tabindex: "-1" }, el("h3", null, words.errors));
  if (flat === null) {
    section.append(el("p", null, words["no predictions"]));
    return section;
  }
  let found = [];
  for (let k = 0; k < flat.length; k += 3) {
    found.push([flat[k], names[Math.floor(flat[k + 1] / n)], names[flat[k + 1] % n], flat[k + 2]]);
  }
  let total = evaluation[COUNTS].reduce((sum, count, k) => sum + (Math.floor(k / n) === k % n ? 0 : count), 0);
  if (cell) {
    found = found.filter(([, g, p]) => g === cell[0] && p === cell[1]);
    total = evaluation[COUNTS][names.indexOf(cell[0]) * n + names.indexOf(cell[1])];
    section.append(el("p", null, el("b", null, say("errors of", { a: register(cell[0]), b: register(cell[1]) })), " · ",
      el("a", { href: place(run, lang) }, words["all errors"])));
  }
  if (!total) {
    section.append(el("p", null, words["no error"]));
    return section;
  }
  const told = total > found.length ? say("shown of", { k: found.length, n: total }) : say("n errors", { n: total });
  const hasTexts = found.some(([row]) => known[row]);
  const body = el("tbody");
  const table = el("table", { class: hasTexts ? "errors with-texts" : "errors" }, el("caption", null, told),
    heads(words.probability, words.gold, words.predicted, words.row, ...(hasTexts ? [words.text] : [])), body);
  const more = el("button", { type: "button" });
  let shown = 0;
  const add = () => {
    const end = Math.min(shown ? shown + AT_ONCE : FIRST, found.length);
    for (const [row, g, p, probability] of found.slice(shown, end)) {
      const share = localised((probability / 10000).toFixed(4));
      body.append(el("tr", null, el("td", null, share), el("td", null, g), el("td", null, p), el("td", null, String(row)),
        ...(hasTexts ? [el("td", null, el("bdi", { dir: "auto" }, known[row] || ""))] : [])));
    }
    shown = end;
    more.textContent = say("more", { n: Math.min(AT_ONCE, found.length - shown) });
    more.hidden = shown === found.length;
  };
  more.addEventListener("click", add);
  add();
  section.append(scrolled(table), more);
  if (found.some(([row]) => hasTexts && !known[row])) section.append(el("p", { class: "note" }, words["no beginning"]));
  return section;
}

function column(grid, row, lang) {
  const both = el("div", { class: "pair" });
  for (const metric of grid.metrics) {
    const pairs = grid.compared[metric][lang] || [], against = new Map();
    for (const [i, j, difference, low, high, p] of pairs) {
      if (i === row) against.set(j, [difference, low, high, p]);
      if (j === row) against.set(i, [-difference, -high, -low, p]);
    }
    const rows = grid.rows.map((other, i) => {
      const first = other.runs.find((run) => data.runs[run].evaluations[lang]);
      if (first === undefined) return null;
      const text = grid.cells[metric] ? grid.cells[metric][i][lang] : scoreText(data.runs[first].evaluations[lang], metric);
      const found = against.get(i);
      const best = grid.best[metric][lang] === i ? ` (${words.best})` : "";
      return el("tr", { class: i === row ? "chosen" : null },
        el("th", { scope: "row" }, el("a", { href: place(data.runs[first], lang) }, other.label), best),
        el("td", null, text),
        el("td", null, i === row ? words["this one"] : found ? signed(found[0]) : ""),
        el("td", null, found ? `${signed(found[1])} … ${signed(found[2])}` : ""),
        el("td", null, found ? localised((found[3] / 10000).toFixed(found[3] < 100 ? 4 : 2)) : ""),
        el("td", { class: "text" }, found ? verdict(found[3] / 10000, against.size) : i === row ? "" : words["not compared"]));
    });
    const name = data.metrics.find(([key]) => key === metric)[1];
    both.append(scrolled(el("table", null, el("caption", null, name),
      heads(words["training mix"], words.score, words.difference, words.interval, "p", ""),
      el("tbody", null, ...rows.filter((r) => r !== null)))));
  }
  const folder = (i) => data.runs[grid.rows[i].runs[0]].name;
  const other = grid.rows.findIndex((_, i) => i !== row);
  const command = `post_eval.py --compare ${folder(row)} ${other < 0 ? "…" : folder(other)}`;
  const [before, after] = words[grid.parts ? "column note" : "column note thin"].split("{command}");
  const note = el("p", { class: "note" }, before, el("code", null, command), after);
  return grid.rows.length > 1 ? el("section", null, el("h3", null, words.column), both, note) : null;
}

function scoreText(evaluation, metric) {
  const i = data.metrics.findIndex(([key]) => key === metric);
  const odd = evaluation[WARNINGS].some(([kind]) => data.strings[kind] === "odd") ? " †" : "";
  if (evaluation[SCORES][i] === null) return words["too few"] + odd;
  return `${decimal(evaluation[SCORES][i])}${odd}${evaluation[BOUNDS][i][0] === null ? "" : ` (${range(evaluation[BOUNDS][i])})`}`;
}

function verdict(p, comparisons) {
  return p * comparisons < 0.05 ? words["more than chance"] : p < 0.05 ? words.alone : words.chance;
}

function rowOf(run, lang) {
  const rows = Object.entries(run.evaluations).map(([other, evaluation]) => el("tr", { class: other === lang ? "chosen" : null },
    el("th", { scope: "row" }, el("a", { href: place(run, other) }, language(other))),
    el("td", null, run.langs.includes("distr") ? "" : run.langs.includes(other) ? words.no : words.yes),
    el("td", null, String(gold(evaluation).reduce((a, b) => a + b, 0))),
    ...[0, 1].flatMap((i) => [
      el("td", null, evaluation[SCORES][i] === null ? words["too few"] : decimal(evaluation[SCORES][i])),
      el("td", null, range(evaluation[BOUNDS][i]))])));
  return el("section", null, el("h3", null, words["in the row"]),
    scrolled(el("table", null, el("caption", null, run.mix),
      heads(words.language, words.kind, "n", data.metrics[0][1], words.interval, data.metrics[1][1], words.interval),
      el("tbody", null, ...rows))),
    el("p", { class: "note" }, words["row note"]));
}

function signature(run, evaluation, lang) {
  const list = el("dl");
  const add = (name, value) => list.append(el("dt", null, name), el("dd", null, value));
  data.keys[evaluation[KEYS]].forEach((key, i) => add(key, data.strings[evaluation[VALUES][i]]));
  if (run.epochs[0]) add(words.epochs, run.epochs.join(words.semicolon));
  if (run.seed !== null) add(words.seed, String(run.seed));
  add(words.again, el("code", null, run.command + lang));
  return el("section", null, el("h3", null, words.signature), list);
}

// ---- where a link leads ----

let lastCell = null; // the link that led to the evaluation: where the reader goes on when coming back
let shownKey = null;

function follow() {
  const [key, cellPart] = location.hash.slice(1).split("?");
  const found = evaluations.get(key);
  overview.hidden = Boolean(found);
  article.hidden = !found;
  if (!found) {
    shownKey = null;
    document.title = title;
    article.replaceChildren();
    const target = document.getElementById(decode(key));
    if (lastCell && key === "matrices" && lastCell.offsetParent) lastCell.focus();
    else if (target) {
      target.scrollIntoView();
      target.focus({ preventScroll: true });
    }
    return;
  }
  const cell = cellPart === undefined ? null : cellPart.split("/").map(decode);
  showEvaluation(...found, isCell(found, cell) ? cell : null);
  const isTexts = cell || shownKey === key;
  shownKey = key;
  (isTexts ? document.getElementById("errors") : article).scrollIntoView();
  (isTexts ? document.getElementById("errors") : article.querySelector("h2")).focus({ preventScroll: true });
}

function isCell([number, lang], cell) {
  const names = data.sets[data.runs[number].evaluations[lang][SET]];
  return cell !== null && cell.length === 2 && cell.every((name) => names.includes(name));
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

overview.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link) lastCell = link;
});
window.addEventListener("hashchange", follow);

// ---- choices above the matrices ----

const panels = [...document.querySelectorAll(".panel")];
const selects = [...document.querySelectorAll("[data-choice]")];
const sortBox = document.getElementById("sort");
const zeroShotBox = document.getElementById("zero-shot");
const MANY = 6; // panels: of more, those of the first model are shown until another is chosen

function choose() {
  for (const panel of panels) {
    panel.hidden = !selects.every((select) => !select.value || select.value === `=${panel.dataset[select.dataset.choice]}`);
  }
  document.getElementById("none").hidden = panels.some((panel) => !panel.hidden);
  overview.classList.toggle("only-zero-shot", zeroShotBox.checked);
}

function sortRows() {
  const value = (row) => row.dataset.mean === "" ? -1 : Number(row.dataset.mean);
  for (const body of document.querySelectorAll(".panel tbody")) {
    const rows = [...body.rows].sort((a, b) => a.dataset.place - b.dataset.place);
    if (sortBox.checked) rows.sort((a, b) => value(b) - value(a));
    body.append(...rows);
  }
}

if (panels.length > MANY) {
  for (const select of selects) if (select.dataset.choice === "model") select.selectedIndex = 1;
}
for (const select of selects) select.addEventListener("change", choose);
zeroShotBox.addEventListener("change", choose);
sortBox.addEventListener("change", sortRows);
document.getElementById("choices").hidden = false;
choose();
sortRows();
follow();
