// The verdict's card: what is dropped most, why one token is, and the paired differences, all at the run's own setting.

const MOST = { wide: 8, narrow: 4 }; // tokens that are listed at first as dropped most

async function drawVerdict(payload, store) {
  const own = new Selection(payload); // the verdict is not of the slider's setting
  const { findings, typical } = payload;
  explain(".verdict > h2, .verdict > p.soft, #meaning", payload.terms);
  document.getElementById("most-dropped").replaceChildren(...droppedMost(own, payload.method));
  document.getElementById("differences").replaceChildren(...differences(findings));
  if (typical === null) document.getElementById("typical").replaceChildren(empty("The page holds no example."));
  else drawTypical(payload, own, await store.example(typical));
}

// The charts of at most two measures, of those with a difference if there are any.
function differences(findings) {
  const measures = d3.groups(findings, (one) => one.measure).map(([, found]) => found);
  const telling = measures.filter((found) => found.some((one) => one.better !== null));
  return (telling.length ? telling : measures).slice(0, 2).map((found) => paired(found));
}

function droppedMost(own, method) {
  const { kept, all } = own.total(method);
  const rows = own.words(method).filter((row) => row.dropped).sort((a, b) => b.dropped - a.dropped);
  const note = element("p", { className: "soft small" }, `In all, ${percent(1 - kept / all)} of the tokens are dropped.`);
  if (!rows.length) return [note, empty("No frequent token is dropped.")];
  const first = matchMedia("(max-width: 40rem)").matches ? MOST.narrow : MOST.wide;
  return [note, firstRows("dropped most", rows.length, first, (shown) => table(["token", "dropped", "share dropped"],
    rows.slice(0, shown).map((row) => [tokenName(row.text), count(row.dropped), percent(row.dropped / row.all)]), (i) => showToken(rows[i])))];
}

// An answer with its kept and dropped tokens, and the cause for one of them; pointing at another one tells its cause.
function drawTypical(payload, own, example) {
  const { method, typical, index } = payload, setting = own.setting(method);
  const place = document.getElementById("typical"), reason = element("div", { id: "reason", className: "reason" });
  const map = new HeatMap(example, "One answer, with what is kept and dropped of it", true);
  map.element.className = "glance";
  map.element.dataset.arm = method;
  map.paint({ levels: example.column(`level:${method}`), setting }, null, null, null);
  const details = new Details(place, own, { panel: reason, brief: true });
  const more = element("button", { type: "button", className: "link", onclick: () =>
    showExamples({ example: index.numbers[typical], token: example.pieces[details.number].start }) }, "see the whole example");
  const key = element("p", { className: "small soft glance-key" }, element("span", { className: "sample z kept" }, "kept"), element("span", { className: "sample z dropped" }, "dropped"),
    ...(map.marked.some(Boolean) ? [element("span", { className: "sample z marked" }, "marked by the data")] : []), "· is a space", more);
  place.replaceChildren(reason, map.element, key);
  details.number = tellingPiece(example, method, setting);
  details.show(example, [{ arm: method }]);
}

// The piece to explain: of the dropped ones, or of all if none is dropped, a whole word with the lowest score.
function tellingPiece({ pieces, column }, arm, setting) {
  const levels = column(`level:${arm}`), scores = column(`value:score:${arm}`);
  const trained = d3.range(pieces.length).filter((number) => levels[pieces[number].start] !== PROMPT);
  const dropped = trained.filter((number) => levels[pieces[number].start] > setting);
  const among = dropped.length ? dropped : trained;
  const words = among.filter((number) => isWord(pieces, number));
  return d3.least(words.length ? words : among, (number) => scores[pieces[number].start]);
}

// Whether a piece is a word of three letters or more, and not a part of one.
function isWord(pieces, number) {
  const [before, { text, special }, after] = [-1, 0, 1].map((by) => pieces[number + by] ?? { text: "" });
  const isInner = /^\p{L}/u.test(text) && /\p{L}$/u.test(before.text);
  return !special && !isInner && /\p{L}{3}/u.test(text) && !/^\p{L}/u.test(after.text);
}
