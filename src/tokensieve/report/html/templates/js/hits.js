// Hits: the tokens whose value in one column lies within bounds, such as those of a bar or of a vocabulary token.

// A click on a chart asks for hits; the address names them "COLUMN~LOW~HIGH", with an empty bound where there is none.
const hitsText = ({ column, low, high }) => [column, ...[low, high].map((end) => (Number.isFinite(end) ? end : ""))].join("~");

function readHits(text) {
  const [, column, low, high] = /^(.+)~([^~]*)~([^~]*)$/.exec(text ?? "") ?? [];
  if (!column) return null;
  const bound = (end, none) => (end === "" || Number.isNaN(Number(end)) ? none : Number(end));
  return { column, low: bound(low, -Infinity), high: bound(high, Infinity) };
}

// One value, such as a kind of token.
const hitsOf = (column, value) => ({ column, low: value, high: value });

function isHit(example, token, { column, low, high }) {
  const value = example.column(column)?.[token];
  return value >= low && value <= high && example.column(example.levels)[token] !== PROMPT;
}

// Whether each piece of an example holds a hit.
function hitPieces(example, hits) {
  return example.pieces.map(({ start, stop }) => d3.range(start, stop).some((token) => isHit(example, token, hits)));
}

// The first piece with a hit that is dropped, or the first with a hit; null without any.
function hitToExplain(example, hits, arm, setting) {
  const found = d3.range(hits.length).filter((number) => hits[number]), levels = example.column(`level:${arm}`);
  return found.find((number) => levels[example.pieces[number].start] > setting) ?? found[0] ?? null;
}

// Whether each piece of an example is part of a match of the search, which ignores white space and case.
function foundPieces(example, query) {
  const owners = [];
  let text = "";
  example.pieces.forEach((piece, number) => {
    for (const char of plainSpaces(piece.text).toLowerCase()) {
      if (char === " " && (text === "" || text.endsWith(" "))) continue;
      text += char;
      for (let unit = 0; unit < char.length; unit++) owners.push(number);
    }
  });
  const wanted = plainText(query), found = example.pieces.map(() => false);
  for (let at = text.indexOf(wanted); wanted && at >= 0; at = text.indexOf(wanted, at + 1)) {
    for (let unit = at; unit < at + wanted.length; unit++) found[owners[unit]] = true;
  }
  return found;
}

// What hits are, in words: plain text, with the marks of invisible characters taken out.
function hitsName({ column, low, high }, payload) {
  const [kind, ...rest] = column.split(":"), name = rest.join(":");
  if (kind === "id") return `token “${(payload.tokens.find(({ id }) => id === low)?.text ?? low).toString().replace(/[\x01\x02]/g, "")}”`;
  if (column === "group:class") return payload.classes[low];
  if (column === "group:position") return `position ${payload.positions[low]} of an answer`;
  if (low === -Infinity) return `${name} up to ${figure(high)}`;
  return high === Infinity ? `${name} from ${figure(low)}` : `${name} from ${figure(low)} to ${figure(high)}`;
}

// Shows the examples view with other entries in its address, and what else the address holds.
function showExamples(entries) {
  const state = new URLSearchParams(location.hash.split("?")[1] ?? "");
  for (const name of ["search", "source", "hits", "example", "token", "keptRange", "scoreRange", "disputed"]) state.delete(name);
  for (const [name, value] of Object.entries(entries)) state.set(name, value);
  location.hash = `examples?${state}`;
}
