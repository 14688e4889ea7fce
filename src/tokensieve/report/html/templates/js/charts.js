// Charts drawn with Observable Plot. Colours are custom properties in the style sheet, so a theme change needs no script.

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function draw(options, description) {
  const svg = Plot.plot({ ...options, className: "plot" });
  svg.querySelectorAll("style").forEach((style) => style.remove()); // the page has one style sheet
  svg.querySelectorAll("[aria-label]").forEach((mark) => mark.removeAttribute("aria-label")); // an image has one name
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", description);
  return svg;
}

// A chart with its title, and its data as a table for readers who need numbers.
const opened = new Set(); // titles of the charts whose table is open; survives redrawing

// With `pick`, the heading of each row of the table is a button.
function chart(title, note, svg, columns, rows, pick) {
  const made = element("figure", { className: "card" }, element("figcaption", {}, title, " ", element("span", { className: "soft" }, note)), svg);
  if (!columns) return made;
  const details = element("details", {}, element("summary", {}, `Table: ${title}`));
  const fill = () => details.children.length === 1 && details.append(table(columns, rows(), pick));
  details.open = opened.has(title);
  if (details.open) fill();
  details.addEventListener("toggle", () => {
    if (details.open) fill();
    opened[details.open ? "add" : "delete"](title);
  });
  made.append(details);
  return made;
}

function table(columns, rows, pick) {
  const head = element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)));
  const heading = (content, i) => (pick ? element("button", { type: "button", className: "link", title: "Show the examples", onclick: () => pick(i) }, content) : content);
  const body = rows.map(([first, ...rest], i) =>
    element("tr", {}, element("th", { scope: "row" }, heading(first, i)), ...rest.map((cell) => element("td", {}, cell))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

// Calls `pick` with the number of the bar that a click on a chart falls on; `barAt` finds it at a point of the drawing.
function pickBars(svg, barAt, pick) {
  svg.classList.add("pickable");
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / box.width;
    const bar = barAt((event.clientX - box.left) * unit, (event.clientY - box.top) * unit);
    if (bar >= 0) pick(bar);
  });
  return svg;
}

// The first and the last bar also count what lies beyond them, up to the extremes.
function histogram(title, edges, counts, threshold, kept, { least, most }, pick) {
  const bars = counts.flatMap(({ kept, all }, i) => [
    { x1: edges[i], x2: edges[i + 1], y1: 0, y2: kept, fate: "kept" },
    { x1: edges[i], x2: edges[i + 1], y1: kept, y2: all, fate: "dropped" },
  ]).filter((bar) => bar.y2 > bar.y1);
  const low = edges[0], high = edges.at(-1), far = (high - low) / 1000; // what is nearer than that shows in no bar
  const below = least < low - far, above = most > high + far;
  const visible = threshold !== null && threshold >= low && threshold <= high;
  const beyond = [
    ...(below ? [{ x: (edges[0] + edges[1]) / 2, y: counts[0].all, sign: "≤" }] : []),
    ...(above ? [{ x: (edges.at(-2) + high) / 2, y: counts.at(-1).all, sign: "≥" }] : []),
  ];
  const rect = (fate, fill, stroke) => Plot.rect(bars.filter((bar) => bar.fate === fate), {
    x1: "x1", x2: "x2", y1: "y1", y2: "y2", fill, stroke, strokeWidth: 0.6, insetLeft: 0.5, insetRight: 0.5,
  });
  const svg = draw({
    width: 360, height: 190, marginLeft: 44, marginRight: 10, marginTop: 22, marginBottom: 26,
    x: { domain: [low, high], ticks: 5, tickFormat: figure, label: null },
    y: { ticks: 4, tickFormat: (n) => (n ? d3.format("~s")(n) : "0"), label: null, grid: true },
    marks: [
      rect("kept", "var(--kept)", "var(--kept)"),
      rect("dropped", "url(#hatch)", "var(--dropped)"),
      Plot.ruleY([0], { stroke: "var(--soft)" }),
      Plot.text(beyond, { x: "x", y: "y", text: "sign", dy: -7, fill: "var(--ink)", fontSize: 14 }),
      ...(visible ? [
        Plot.ruleX([threshold], { stroke: "var(--ink)", strokeWidth: 1.5, strokeDasharray: "4 3" }),
        Plot.text([threshold], {
          x: (d) => d, frameAnchor: "top", dy: -14, text: () => `threshold ${figure(threshold)}`, fill: "var(--ink)",
          textAnchor: threshold < low + (high - low) / 4 ? "start" : threshold > high - (high - low) / 4 ? "end" : "middle",
        }),
      ] : []),
    ],
  }, `${title}: ${count(kept.kept)} kept and ${count(kept.all - kept.kept)} dropped tokens between ${figure(low)} and ${figure(high)}.`
    + (visible ? ` The threshold is ${figure(threshold)}.` : ""));
  pickBars(svg, (x) => {
    const bar = d3.bisectRight(edges, svg.scale("x").invert(x)) - 1;
    return counts[bar]?.all ? bar : -1;
  }, pick);
  const note = beyond.length ? `end bars (${beyond.map((one) => one.sign).join(", ")}) hold all up to ${[below ? figure(least) : null, above ? figure(most) : null].filter(Boolean).join(" and ")}` : "";
  return chart(title, note, svg, ["from", "kept", "dropped"], () =>
    counts.map(({ kept, all }, i) => [i === 0 && below ? figure(least) : figure(edges[i]), count(kept), count(all - kept)]), pick);
}

function shares(title, names, counts, overall, pick) {
  const rows = names.map((name, i) => ({ name, i, ...counts[i], share: counts[i].kept / counts[i].all })).filter((row) => row.all);
  const longest = Math.min(150, 14 + 6.6 * d3.max(rows, (row) => shorten(row.name).length));
  const svg = draw({
    width: 360, height: 44 + 22 * rows.length, marginLeft: longest, marginRight: 52, marginTop: 6, marginBottom: 26,
    x: { domain: [0, 1], ticks: 4, tickFormat: "%", label: null },
    y: { domain: rows.map((row) => row.name), label: null, tickSize: 0, tickFormat: shorten },
    marks: [
      Plot.barX(rows, { y: "name", x1: 0, x2: 1, fill: "url(#hatch)", stroke: "var(--dropped)", strokeWidth: 0.6, insetTop: 3, insetBottom: 3 }),
      Plot.barX(rows, { y: "name", x1: 0, x2: "share", fill: "var(--kept)", insetTop: 3, insetBottom: 3 }),
      Plot.text(rows, { y: "name", x: 1, text: (row) => percent(row.share), textAnchor: "end", dx: 50, fill: "var(--ink)" }),
      Plot.ruleX([overall], { stroke: "var(--ink)", strokeWidth: 1.5, strokeDasharray: "4 3" }),
    ],
  }, `${title}: ${rows.map((row) => `${row.name} ${percent(row.share)}`).join(", ")}.`);
  const { range: [top, bottom] } = svg.scale("y"), pickRow = (row) => pick(rows[row].i);
  pickBars(svg, (x, y) => (y >= top && y < bottom ? Math.floor((rows.length * (y - top)) / (bottom - top)) : -1), pickRow);
  return chart(title, "", svg, ["group", "kept", "trainable", "share"], () =>
    rows.map((row) => [row.name, count(row.kept), count(row.all), percent(row.share)]), pickRow);
}

const shorten = (name) => (name.length > 24 ? `…${name.slice(-23)}` : name);

function agreement(names, value) {
  const cells = names.flatMap((row) => names.map((column) => ({ row, column, share: value(row, column) })));
  const margin = Math.min(160, 16 + 6.4 * d3.max(names, (name) => shorten(name).length));
  return draw({
    width: margin + 46 * names.length + 60, height: 0.75 * margin + 34 * names.length + 8,
    marginLeft: margin, marginTop: 0.75 * margin, marginBottom: 4, marginRight: 60,
    x: { domain: names, label: null, axis: "top", tickSize: 0, tickRotate: -40, tickFormat: shorten },
    y: { domain: names, label: null, tickSize: 0, tickFormat: shorten },
    marks: [
      Plot.cell(cells, { x: "column", y: "row", inset: 1, fill: "var(--soft)", fillOpacity: (cell) => 0.35 * cell.share }),
      Plot.text(cells, { x: "column", y: "row", text: (cell) => cell.share.toFixed(2), fill: "var(--ink)" }),
    ],
  }, `Jaccard index of kept tokens: ${cells.filter((cell) => names.indexOf(cell.row) < names.indexOf(cell.column))
    .map((cell) => `${cell.row} and ${cell.column} ${cell.share.toFixed(2)}`).join(", ")}.`);
}

// Width of a wide chart: at most the window's width, which keeps its text readable.
function wide(most = 640) {
  return Math.min(most, document.documentElement.clientWidth - 64);
}

function scatter(x, y, xs, ys) {
  const points = Array.from(xs, (value, i) => [value, ys[i]]);
  const range = (values) => [d3.quantile(values, 0.005), d3.quantile(values, 0.995)];
  return draw({
    width: wide(), height: 380, marginLeft: 52, marginBottom: 40, clip: true,
    x: { domain: range(xs), label: x, nice: true, tickFormat: figure },
    y: { domain: range(ys), label: y, nice: true, grid: true, tickFormat: figure },
    marks: [
      ...(x !== y && xs.length ? [Plot.line([d3.min([...range(xs), ...range(ys)]), d3.max([...range(xs), ...range(ys)])].map((v) => [v, v]), { stroke: "var(--soft)", strokeDasharray: "2 4", clip: true })] : []),
      Plot.dot(points, { x: "0", y: "1", r: 2.6, symbol: "circle", clip: true }),
    ],
  }, `A sample of ${points.length} trainable tokens by ${x} and ${y}. On the dotted line, both values are equal.`);
}

function intervals(title, rows, format) {
  const margin = Math.min(170, 16 + 7 * d3.max(rows, (row) => shorten(row.name).length));
  return chart(title, "95 % intervals of each by itself: where they overlap, the paired differences above decide", draw({
    width: 360, height: 50 + 26 * rows.length, marginLeft: margin, marginRight: 16, marginBottom: 28, marginTop: 8,
    x: { ticks: 4, tickFormat: format, label: null, nice: true, grid: true },
    y: { domain: rows.map((row) => row.name), label: null, tickSize: 0, tickFormat: shorten },
    marks: [
      Plot.link(rows.filter((row) => row.low !== null), { y: "name", x1: "low", x2: "high", stroke: "var(--ink)", strokeWidth: 3, strokeOpacity: 0.4 }),
      Plot.dot(rows, { y: "name", x: "value", r: 4.5, fill: "var(--ink)", stroke: "var(--card)" }),
    ],
  }, `${title}: ${rows.map((row) => `${row.name} ${figure(row.value)}`).join(", ")}.`));
}

// The paired differences of the method from its controls in one measure, with the side that is better.
function paired(found) {
  const { title, unit, lower_is_better: lower } = found[0];
  const factor = unit === "share" ? 100 : 1, names = { random: "as many random tokens", full: "full training" };
  const rows = found.map(({ control, better, difference: one }) => ({
    name: `against ${names[control]}`, value: factor * one.value, low: factor * one.low, high: factor * one.high,
    said: better === null ? "not clear" : better ? "better" : "worse",
  }));
  const svg = draw({
    width: 360, height: 58 + 40 * rows.length, marginLeft: 14, marginRight: 14, marginBottom: 42, marginTop: 8,
    x: {
      domain: d3.extent([0, ...rows.flatMap((row) => [row.low, row.high])]), nice: true, ticks: 4, tickFormat: figure, grid: true,
      labelAnchor: "center", labelArrow: "none", label: lower ? "← better · worse →" : "← worse · better →",
    },
    y: { domain: rows.map((row) => row.name), axis: null },
    marks: [
      Plot.ruleX([0], { stroke: "var(--ink)", strokeWidth: 1.5 }),
      Plot.link(rows, { y: "name", x1: "low", x2: "high", stroke: "var(--ink)", strokeWidth: 4, strokeOpacity: 0.4 }),
      Plot.dot(rows, { y: "name", x: "value", r: 5, fill: "var(--ink)", stroke: "var(--card)" }),
      Plot.text(rows, { y: "name", frameAnchor: "left", dx: 4, dy: -15, text: ({ name, said }) => `${name}: ${said}`, textAnchor: "start", fill: "var(--ink)" }),
    ],
  }, `${title}, paired differences: ${rows.map((row) => `${row.name} ${figure(row.value)}, from ${figure(row.low)} to ${figure(row.high)}, ${row.said}`).join("; ")}. ${lower ? "Lower" : "Higher"} is better.`);
  return element("figure", {}, element("figcaption", {}, `${title[0].toUpperCase()}${title.slice(1)}: difference, ${unit === "share" ? "points" : unit} `,
    element("span", { className: "soft" }, `${lower ? "lower" : "higher"} is better; bars are 95 % intervals`)), svg);
}

// How the line of a curve looks: 25 curves differ in colour or in dashes.
const DASHES = ["none", "6 3", "2 3", "8 3 2 3", "1 4"];
const lineOf = (i) => ({ stroke: `var(--line-${i % 5})`, strokeDasharray: DASHES[(i + Math.floor(i / 5)) % 5] });

function lines(title, note, curves) {
  const points = curves.flatMap(({ name, points }) => points.map(([x, y]) => ({ name, x, y })));
  const labels = spread(curves), longest = d3.max(curves, ({ name }) => shorten(name).length);
  const svg = draw({
    width: wide(1120), height: 300, marginLeft: 40, marginRight: 42 + 6.6 * longest, marginBottom: 38,
    x: { label: "optimizer step", labelAnchor: "center", labelArrow: "none", nice: true }, y: { domain: d3.extent(points, ({ y }) => y), label: "loss", nice: true, grid: true },
    marks: curves.flatMap((curve, i) => [
      Plot.line(curve.points, { x: "0", y: "1", strokeWidth: 2, ...lineOf(i) }),
      // A training of one step is a point.
      Plot.dot(curve.points.length > 1 ? [] : curve.points, { x: "0", y: "1", fill: lineOf(i).stroke }),
    ]).concat(Plot.text(labels, {
      x: (d) => d.x, y: "y", text: (d) => shorten(d.name), textAnchor: "start", dx: 36, fill: (d) => lineOf(d.curve).stroke, fontWeight: 600,
    })),
  }, `${title}: ${curves.map((curve) => `${curve.name} from ${figure(curve.points[0][1])} to ${figure(curve.points.at(-1)[1])}`).join(", ")}.`);
  for (const { x, y, curve } of labels) { // a piece of the line before its name
    const { stroke, strokeDasharray } = lineOf(curve), from = svg.scale("x").apply(x) + 8, height = svg.scale("y").apply(y);
    d3.select(svg).append("line").attr("class", "sample-line").attr("x1", from).attr("x2", from + 24).attr("y1", height).attr("y2", height)
      .attr("stroke", stroke).attr("stroke-dasharray", strokeDasharray).attr("stroke-width", 2);
  }
  return chart(title, note, svg, ["arm", "step", "loss"], () => points.map((point) => [point.name, count(point.x), figure(point.y)]));
}

// Spaces out the labels of curves that end close together: each group of them stays centred on the ends of its curves, as
// far as the chart reaches.
function spread(curves) {
  const [low, high] = d3.extent(curves.flatMap((curve) => curve.points.map((point) => point[1])));
  const gap = (high - low) * 0.065;
  const ends = curves.map(({ name, points }, curve) => ({ name, curve, x: points.at(-1)[0], y: points.at(-1)[1] }))
    .sort((a, b) => a.y - b.y);
  const groups = [];
  const grouped = (inside) => {
    const half = gap * (inside.length - 1) / 2;
    return { ends: inside, centre: Math.max(low + half, Math.min(high - half, d3.mean(inside, (one) => one.y))) };
  };
  for (const end of ends) {
    let group = grouped([end]);
    const reach = ({ ends: inside, centre }, side) => centre + side * gap * (inside.length - 1) / 2;
    while (groups.length && reach(groups.at(-1), 1) + gap > reach(group, -1)) {
      group = grouped([...groups.pop().ends, ...group.ends]);
    }
    groups.push(group);
  }
  return groups.flatMap(({ ends: inside, centre }) => inside.map((end, i) => ({ ...end, y: centre + gap * (i - (inside.length - 1) / 2) })));
}
