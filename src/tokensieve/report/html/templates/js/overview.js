// The views of the complete data set: results, kept tokens, training.

const OFTEN = 15; // vocabulary tokens that are listed at first
const BESIDE = 7; // arms whose matrix of agreement has room beside another chart

class Overview {
  constructor(payload, selection) {
    this.payload = payload;
    this.selection = selection;
    this.scatter = null;
    this.sorting = new Map(); // the column by which each list of vocabulary tokens is in order
  }

  drawResults() {
    const charts = this.payload.metrics.map(({ title, kind, rows }) =>
      intervals(title, rows, kind === "share" ? "%" : figure));
    document.getElementById("result-charts").replaceChildren(...charts);
  }

  drawTraining() {
    const trained = this.payload.arms.filter((arm) => arm.losses.length), seeds = d3.max(trained, (arm) => arm.seeds);
    const place = document.getElementById("training"), curves = trained.map((arm) => ({ name: arm.name, points: arm.losses }));
    place.replaceChildren(...(curves.length ? [lines("Training loss", seeds > 1 ? `of the first of ${seeds} seeds` : "", curves)] : [empty("No loss curve: no arm was trained.")]));
  }

  // Draws the visible charts immediately and the others when idle, to keep the slider responsive.
  drawSelection(arm) {
    clearTimeout(this.waiting);
    // All places are measured before anything is drawn: each measurement after a change would lay the page out again.
    const places = this.jobs(arm).map(({ place, draw }) => ({ box: place.getBoundingClientRect(), draw }));
    const isVisible = ({ box }) => box.top < innerHeight && box.bottom >= 0;
    const rest = places.filter((place) => !isVisible(place)).map(({ draw }) => draw);
    for (const { draw } of places.filter(isVisible)) draw();
    const next = () => {
      rest.shift()?.();
      if (rest.length) this.waiting = setTimeout(next);
    };
    this.waiting = setTimeout(next);
  }

  // Draws every chart at once, for a printer.
  drawAll(arm) {
    clearTimeout(this.waiting);
    for (const { draw } of this.jobs(arm)) draw();
  }

  // Each part of the view: its element, and the function that draws it.
  jobs(arm) {
    const { payload, selection } = this;
    const total = selection.total(arm);
    const histograms = ["score", ...payload.statistics].map((name, i) => slot("histograms", i, () => {
      const edges = payload.edges[name === "score" ? `score:${arm}` : name];
      const counts = selection.counts(payload.histograms[arm][name], arm);
      const column = name === "score" ? `score:${arm}` : name;
      const pick = (bar) => showHits({
        column: `value:${column}`, low: bar === 0 ? -Infinity : edges[bar], high: bar === counts.length - 1 ? Infinity : edges[bar + 1],
      });
      return histogram(name, edges, counts, name === "score" ? selection.threshold(arm) : null, total, payload.ranges[column], pick);
    }));
    const sources = payload.sources.length > 1 ? [["Source", payload.sources, "source"]] : []; // one source keeps what all keep
    const kinds = [...sources, ["Position in the answer", payload.positions, "position"], ["Kind of token", payload.classes, "class"]];
    const groups = kinds.map(([title, labels, kind], i) => slot("groups", i, () =>
      shares(title, labels, selection.counts(payload.tables[kind][arm], arm), total.kept / total.all,
        (group) => (kind === "source" ? showExamples({ source: group }) : showHits(hitsOf(`group:${kind}`, group))))));
    const part = (id, draw) => ({ place: document.getElementById(id), draw });
    return [
      ...histograms, ...groups, part("agreement", () => this.drawAgreement()), part("scatter", () => this.drawScatter(arm)),
      part("vocabulary", () => this.drawVocabulary(arm, total)),
    ];
  }

  drawAgreement() {
    const names = this.payload.arms.map((arm) => arm.name).filter((name) => name !== "full" || this.payload.arms.length < 3);
    const place = document.getElementById("agreement");
    if (names.length < 2) return place.replaceChildren(empty("This page has only one arm. To compare methods, pass several runs to `tokensieve report`."));
    const note = element("p", { className: "soft small" }, "Jaccard index: tokens that both arms keep, divided by tokens that at least one keeps, each at its current ratio.");
    const scroll = element("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Agreement of methods" },
      agreement(names, (a, b) => this.selection.jaccard(a, b)));
    place.replaceChildren(note, scroll);
    for (const card of place.closest(".pair").children) card.classList.toggle("wide", names.length > BESIDE);
  }

  drawScatter(arm) {
    const place = document.getElementById("scatter"), names = this.payload.statistics;
    if (names.length < 2) return place.replaceChildren(empty("A scatter plot needs at least two statistics."));
    this.scatter ??= this.makeScatter(place, names);
    const { levels } = this.payload.points, setting = this.selection.setting(arm);
    this.scatter.dots.forEach((dot, i) => dot.setAttribute("class", levels[arm][i] <= setting ? "dot-kept" : "dot-dropped"));
  }

  makeScatter(place, names) {
    const first = names.find((name) => /^base.*loss$/.test(name)) ?? names[0];
    const second = names.find((name) => name !== first && /loss/.test(name)) ?? names.find((name) => name !== first);
    const made = { dots: [] };
    const menus = [["x axis", first], ["y axis", second]].map(([label, chosen]) => {
      const menu = menuOf(names.map((name) => [name, name]), chosen);
      menu.addEventListener("change", () => { build(); this.drawScatter(document.getElementById("arm").value); });
      return [menu, element("label", { className: "field" }, `${label} `, menu)];
    });
    const frame = element("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Scatter plot of two statistics" });
    const build = () => {
      const [x, y] = menus.map(([menu]) => menu.value), { values } = this.payload.points;
      const svg = scatter(x, y, values[x], values[y]);
      made.dots = [...svg.querySelectorAll("circle")];
      svg.classList.add("pickable-dots");
      svg.addEventListener("click", (event) => this.showDot(made.dots.indexOf(event.target)));
      frame.replaceChildren(svg);
    };
    build();
    place.replaceChildren(element("div", { className: "bar" }, ...menus.map(([, label]) => label)), frame, element("p", { id: "dot-note", className: "soft small", role: "status" }));
    return made;
  }

  // Shows the token that a dot stands for, in its example.
  showDot(dot) {
    if (dot < 0) return;
    const { points, index } = this.payload, example = points.examples[dot];
    if (index.numbers.includes(example)) return showExamples({ example, token: points.tokens[dot] });
    document.getElementById("dot-note").textContent = `The page does not hold example ${count(example)}, which this token is in; tokensieve serve shows it.`;
  }

  drawVocabulary(arm, total) {
    const share = total.kept / total.all, rows = this.selection.words(arm);
    const sides = [["Kept most often", "kept", share], ["Dropped most often", "dropped", 1 - share]];
    document.getElementById("vocabulary").replaceChildren(...sides.map(([title, fate, overall]) => {
      const columns = [[fate, (row) => row[fate], count], [`share ${fate}`, (row) => row[fate] / row.all, percent], ["seen", (row) => row.all, count]];
      const sorted = this.sorting.get(fate) ?? 0, note = `by ${["count", "share", "times seen"][sorted]}, of the ${rows.length} most frequent tokens; overall, ${percent(overall)} are ${fate}`;
      const found = d3.sort(rows.filter((row) => row[fate]), (row) => -columns[sorted][1](row), (row) => -row[fate]);
      const draw = (shown) => {
        const cells = found.slice(0, shown).map((row) => [tokenName(row.text), ...columns.map(([, value, spell]) => spell(value(row)))]);
        const made = table(["token", ...columns.map(([name]) => name)], cells, (i) => showToken(found[i]));
        made.querySelectorAll("th[scope=col]").forEach((head, i) => i && this.makeSorter(head, fate, i - 1, () => this.drawVocabulary(arm, total)));
        return made;
      };
      const body = found.length ? firstRows(title, found.length, OFTEN, draw) : empty("None of the frequent tokens.");
      return element("div", { className: "card scroll", tabIndex: 0, role: "region", "aria-label": title },
        element("h4", {}, title, " ", element("span", { className: "soft" }, note)), body);
    }));
  }

  // Makes the heading of a column a button that puts the rows in its order.
  makeSorter(head, fate, column, redraw) {
    const id = `sort-${fate}-${column}`, button = element("button", { type: "button", className: "link", id }, head.textContent);
    button.addEventListener("click", () => {
      this.sorting.set(fate, column);
      redraw();
      document.getElementById(id).focus();
    });
    head.replaceChildren(button);
    if (column === (this.sorting.get(fate) ?? 0)) head.setAttribute("aria-sort", "descending");
  }
}

const showHits = (hits) => showExamples({ hits: hitsText(hits) });
const showToken = ({ id }) => showHits(hitsOf("id", id));

const whole = new Set(); // names of the lists that are shown whole; survives redrawing

// The first of some frequent tokens, how many there are, and a button for all of them; `draw` makes the table of as many.
function firstRows(name, all, first, draw) {
  const place = element("div");
  const show = () => {
    const shown = whole.has(name) ? all : Math.min(first, all);
    const frame = element("div", whole.has(name) ? { className: "whole", tabIndex: 0, role: "region", "aria-label": `All tokens: ${name}` } : {}, draw(shown));
    const button = element("button", { type: "button", className: "link" }, whole.has(name) ? "show fewer" : "show all");
    button.addEventListener("click", () => {
      whole[whole.has(name) ? "delete" : "add"](name);
      show();
      place.lastChild.lastChild.focus();
    });
    place.replaceChildren(frame, element("p", { className: "soft small" }, `${count(shown)} of ${count(all)} frequent tokens`, ...(all > first ? [" · ", button] : [])));
  };
  show();
  return place;
}

// The i-th slot of a grid, and the function that redraws its chart.
function slot(id, i, make) {
  const grid = document.getElementById(id);
  if (!grid.children[i]) grid.append(element("div"));
  return { place: grid.children[i], draw: () => grid.children[i].replaceWith(make()) };
}

function empty(text) {
  return element("p", { className: "empty soft" }, text);
}

function menuOf(pairs, chosen) {
  return fillMenu(element("select"), pairs, chosen);
}

function fillMenu(menu, pairs, chosen = pairs[0][0]) {
  menu.replaceChildren(...pairs.map(([value, label]) => element("option", { value }, label)));
  menu.value = chosen;
  return menu;
}

function tokenName(text) {
  const name = element("span", { className: "token", translate: false });
  appendMarked(name, text.replaceAll("\n", "")); // its mark stands for it
  return name;
}
