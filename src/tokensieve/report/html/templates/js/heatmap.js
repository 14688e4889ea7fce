// The heat map of one example: one element per piece of text, with its state and colour as classes.

const LEVELS = 8;
const FOLDED = { from: 300, ends: 100 }; // pieces of a prompt that folds, and those left in view at each end

function scaleLevel({ low, high, signed }, value) {
  if (high <= low) return 0;
  const clipped = Math.min(Math.max(value, low), high);
  return roundHalfEven(LEVELS * (signed ? clipped / high : (clipped - low) / (high - low)));
}

function roundHalfEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

function levelClass(level, signed) {
  return level === 0 ? "z" : `${signed ? (level > 0 ? "p" : "n") : "s"}${Math.abs(level)}`;
}

// Appends text in which two marks enclose the visible form of each invisible character.
function appendMarked(parent, text) {
  text.split(/\x01([^\x02]*)\x02/).forEach((part, i) => {
    if (!part) return;
    if (i % 2 === 0) return parent.append(part);
    parent.append(element("i", {}, part), document.createElement("wbr"));
  });
}

// The classes of a piece: its state at the current settings, and its colour.
function pieceStyle(piece, decided, other, values, scale) {
  let kept = 0, all = 0, sum = 0, differs = false;
  for (let i = piece.start; i < piece.stop; i++) {
    if (decided.levels[i] === PROMPT) continue;
    all++;
    const keeps = decided.levels[i] <= decided.setting;
    kept += keeps;
    if (values) sum += values[i];
    differs ||= other !== null && keeps !== (other.levels[i] <= other.setting);
  }
  if (!all) return "prompt";
  const state = kept === all ? "kept" : kept ? "mixed" : "dropped";
  const level = values ? scaleLevel(scale, sum / all) : 0;
  return `${state} ${levelClass(level, scale?.signed)}${differs ? " differs" : ""}`;
}

// The ends of a long prompt, and a button in place of its middle.
function fold(parts) {
  const { ends } = FOLDED;
  const middle = element("span", { className: "fold", hidden: true }, ...parts.slice(ends, -ends));
  const button = element("button", { type: "button", className: "unfold", dir: "ltr" }, `show ${count(parts.length - 2 * ends)} more tokens of the prompt`);
  button.addEventListener("click", () => unfold(middle));
  return [...parts.slice(0, ends), button, middle, ...parts.slice(-ends)];
}

function unfold(middle) {
  middle.hidden = false;
  middle.previousSibling.remove();
}

class HeatMap {
  // `wanted` picks the pieces to show; all of them if it is not given.
  constructor(example, label, wanted = () => true) {
    this.example = example;
    this.styles = [];
    const marks = example.column("mark");
    this.marked = example.pieces.map(({ start, stop }) => marks?.subarray(start, stop).some((mark) => mark > 0) ?? false);
    this.parts = example.pieces.map((piece, number) => {
      const part = document.createElement("span");
      part.dataset.piece = number;
      if (piece.special) part.dir = "ltr"; // the direction of a turn is that of its text, not of its markup
      appendMarked(part, piece.text);
      return part;
    });
    this.element = element("div", { className: "tokens", tabIndex: 0, role: "group", dir: "auto", translate: false, "aria-label": label }, ...this.turns(wanted));
  }

  // A block for each run of prompt or answer, which runs in the direction of its own text.
  turns(wanted) {
    const { pieces } = this.example, levels = this.example.column(this.example.levels);
    const isPrompt = ({ start, stop }) => levels.subarray(start, stop).every((level) => level === PROMPT);
    const turns = [];
    pieces.forEach((piece, number) => {
      if (!wanted(piece)) return;
      const prompt = isPrompt(piece);
      if (turns.at(-1)?.prompt !== prompt) turns.push({ prompt, parts: [] });
      turns.at(-1).parts.push(this.parts[number]);
    });
    return turns.map(({ prompt, parts }) =>
      element("div", { className: prompt ? "turn asked" : "turn", dir: "auto" }, ...(prompt && parts.length > FOLDED.from ? fold(parts) : parts)));
  }

  // Changes only the pieces whose style changes: building them again at each move of the slider would be slow.
  paint(decided, other, values, scale) {
    this.example.pieces.forEach((piece, number) => {
      const style = pieceStyle(piece, decided, other, values, scale) + (this.marked[number] ? " marked" : "");
      if (style === this.styles[number]) return;
      this.styles[number] = style;
      this.parts[number].className = piece.special ? `${style} special` : style;
    });
  }
}

// The details of a piece's tokens: pairs of name and text, and a sentence that says why each is kept or dropped.
function pieceFacts(example, number, arm, selection, scored) {
  const piece = example.pieces[number];
  const ids = example.column("id");
  return d3.range(piece.start, piece.stop).map((token) => {
    const level = example.column(`level:${arm.name}`)[token];
    const facts = [["token", `${token}`], ["id", `${ids[token]}`]];
    if (level === PROMPT) return { facts, why: "Prompt: not trained on.", fate: "prompt" };
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
    return { facts, fate: kept ? "kept" : "dropped", why: why(example, token, arm, selection, level, score, kept) };
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
function causeInWords({ kind, values, words: [first, second] }, example, token, markTypes) {
  const [a, b] = values.map((name) => example.column(`value:${name}`)[token]);
  const short = (value) => figure(Number(value.toPrecision(3)));
  const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
  if (kind === "text") return first;
  if (kind === "mark") {
    const mark = example.column("mark")?.[token];
    return mark ? `The data marks this token as ${markTypes[mark - 1]}.` : "The data does not mark this token.";
  }
  if (kind === "compare") {
    const than = Math.abs(a - b) < 0.005 ? "as likely as" : a > b ? "less likely than" : "more likely than";
    return sentence(`${first} finds this token ${than} ${second}: ${short(a)} against ${short(b)} nats of loss`);
  }
  if (kind === "loss") return sentence(`${first} finds this token ${a > 1 ? "unlikely" : "likely"}: ${short(a)} nats of loss, a probability of ${percent(Math.exp(-a))}`);
  if (kind === "entropy") return sentence(`${first} is ${a > 1 ? "uncertain" : "certain"} of what stands here: ${short(a)} nats of entropy`);
  return sentence(`${second} of ${first} is ${short(a)}`);
}

function why(example, token, arm, selection, level, score, kept) {
  const said = arm.causes.map((cause) => causeInWords(cause, example, token, selection.payload.markTypes));
  const { sweep } = arm, setting = selection.setting(arm.name);
  const bits = example.column(`reasons:${arm.name}`)?.[token] ?? 0;
  const reasons = arm.reasons.filter((_, bit) => (bits >> bit) & 1);
  if (arm.keepTurnEnd && example.column("turn_end")[token]) return "Kept: turn ends are kept whatever their score.";
  if (reasons.length) said.push(`Reasons to drop it: ${reasons.join(", ")}.`);
  const limit = selection.threshold(arm.name);
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
  return `${kept ? "Kept" : "Dropped"}. ${said.join(" ")}`;
}
