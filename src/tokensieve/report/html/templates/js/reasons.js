// What is said of a token: its figures, and why it is kept or dropped.

const MOST_ODDS = 10_000; // more are as good as certain

// The details of a piece's tokens: pairs of name and text, and sentences: why each is kept or dropped, and by which rule.
function pieceFacts(example, number, arm, selection, scored) {
  const piece = example.pieces[number];
  const ids = example.column("id");
  return d3.range(piece.start, piece.stop).map((token) => {
    const level = example.column(`level:${arm.name}`)[token];
    const facts = [["token", `${token}`], ["id", `${ids[token]}`]];
    if (level === PROMPT) return { facts, why: "Prompt: not trained on.", rule: "", fate: "prompt" };
    const mark = example.column("mark")?.[token];
    if (mark) facts.push(["marked", selection.payload.markTypes[mark - 1]]);
    for (const name of selection.payload.statistics) facts.push([name, figure(example.column(`value:${name}`)[token])]);
    const score = example.column(`value:score:${arm.name}`)[token];
    facts.push([`${scored} score`, figure(score)]);
    facts.push(["rank in the example", rankOf(example, arm.name, token)]);
    for (const part of arm.parts) {
      const values = example.column(`part:${arm.name}:${part}`);
      if (values) facts.push([`${part} part of the score`, figure(values[token])]);
    }
    const kept = level <= selection.setting(arm.name);
    return { facts, fate: kept ? "kept" : "dropped", ...reasonsOf(example, token, arm, selection, level, score, kept) };
  });
}

function rankOf(example, name, token) {
  const levels = example.column(`level:${name}`), scores = example.column(`value:score:${name}`);
  let rank = 1, all = 0;
  for (let i = 0; i < levels.length; i++) {
    if (levels[i] === PROMPT) continue;
    all++;
    if (scores[i] > scores[token] || (scores[i] === scores[token] && i < token)) rank++;
  }
  return `${count(rank)} of ${count(all)}`;
}

// What the statistics say of a token, in words.
function causeInWords({ kind, values, words: [first, second, spans], margin }, example, token, arm, selection) {
  const [a, b] = values.map((name) => example.column(`value:${name}`)[token]);
  const short = (value) => figure(Number(value.toPrecision(3)));
  const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
  if (kind === "text") return first;
  if (kind === "mark") {
    const mark = example.column("mark")?.[token];
    return mark ? `The data marks this token as ${selection.payload.markTypes[mark - 1]}.` : "The data does not mark this token.";
  }
  if (kind === "compare") {
    const than = Math.abs(a - b) < 0.005 ? "as likely as" : a > b ? "less likely than" : "more likely than";
    return sentence(`${first} finds this token ${than} ${second}: ${short(a)} against ${short(b)} nats of loss`);
  }
  if (kind === "span") {
    const { from, to } = spanOf(example, token, arm, selection.setting(arm.name)), odds = example.column(`value:score:${arm.name}`)[token];
    const [all, others] = values.map((name) => d3.sum(example.column(`value:${name}`).subarray(from, to)));
    const size = to - from > 1 ? `the ${count(to - from)} tokens from “${plainName(example, from)}” to “${plainName(example, to - 1)}”` : "this token alone";
    const within = all > others && all - others <= margin * (to - from) ? `, within the margin of ${figure(margin)} a token` : "";
    return `Its span decides, ${size}: ${figure(all)} against ${figure(others)} nats in all${within}, odds ${odds < 0 ? "of" : "against"} ${spans} ${oddsInWords(odds)}.`;
  }
  if (kind === "loss") return sentence(`${first} finds this token ${a > 1 ? "unlikely" : "likely"}: ${short(a)} nats of loss, a probability of ${percent(Math.exp(-a))}`);
  if (kind === "entropy") return sentence(`${first} is ${a > 1 ? "uncertain" : "certain"} of what stands here: ${short(a)} nats of entropy`);
  return sentence(`${second} of ${first} is ${short(a)}`);
}

// The tokens around one that are kept or dropped with it, without a gap.
function spanOf(example, token, arm, setting) {
  const levels = example.column(`level:${arm.name}`), kept = levels[token] <= setting;
  const goesOn = (i) => levels[i] !== undefined && levels[i] !== PROMPT && levels[i] <= setting === kept;
  let from = token, to = token + 1;
  while (goesOn(from - 1)) from--;
  while (goesOn(to)) to++;
  return { from, to };
}

function oddsInWords(logOdds) {
  const odds = Math.exp(Math.abs(logOdds));
  return odds > MOST_ODDS ? `over ${count(MOST_ODDS)} to 1` : `${count(Number(odds.toPrecision(2)))} to 1`;
}

// The text of the piece that has a token, in one line.
function plainName(example, token) {
  return example.pieces.find(({ stop }) => token < stop).text.replace(/[\x01\x02\n]/g, "");
}

function reasonsOf(example, token, arm, selection, level, score, kept) {
  if (arm.keepTurnEnd && example.column("turn_end")[token]) return { why: "Kept: turn ends are kept whatever their score.", rule: "" };
  const causes = arm.causes.map((cause) => causeInWords(cause, example, token, arm, selection));
  const bits = example.column(`reasons:${arm.name}`)?.[token] ?? 0;
  const reasons = arm.reasons.filter((_, bit) => (bits >> bit) & 1);
  if (reasons.length) causes.push(`Reasons to drop it: ${reasons.join(", ")}.`);
  return { why: `${kept ? "Kept" : "Dropped"}. ${causes.join(" ")}`, rule: ruleInWords(example, token, arm, selection, level, score) };
}

// How the score decides: against the threshold, by its parts, and from which setting of the slider on.
function ruleInWords(example, token, arm, selection, level, score) {
  const { sweep } = arm, limit = selection.threshold(arm.name), said = [];
  if (limit !== null) said.push(`Its score ${figure(score)} is ${score > limit ? "above" : score < limit ? "below" : "equal to"} the threshold ${figure(limit)}.`);
  const [part, second] = arm.parts.map((name) => [name, example.column(`part:${arm.name}:${name}`)?.[token]]);
  if (part && second && part[1] !== undefined) {
    said.push(`Its score is the sum of ${figure(part[1])} (${part[0]}) and ${figure(second[1])} (${second[0]}).`);
  }
  if (sweep.parameter === "fraction" || sweep.parameter === "discard") {
    const from = level < sweep.values.length ? figure(sweep.values[level]) : null;
    const drops = sweep.parameter === "discard", within = arm.scope === "example" ? ", ranked within its example" : "";
    if (from === null) said.push("No setting of the slider keeps it.");
    else said.push(drops ? `It is kept if the dropped fraction is at most ${from}${within}.` : `It is kept if the fraction is at least ${from}${within}.`);
  }
  return said.join(" ");
}
