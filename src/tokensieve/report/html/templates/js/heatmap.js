// The heat map of one example: one element per piece of text, with its state and colour as classes.

const LEVELS = 8;
const BLOCK = 60; // pieces after which a block ends with its line
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
  const middle = element("div", { className: "fold", hidden: true }, ...blocks(parts.slice(ends, -ends)));
  const button = element("button", { type: "button", className: "unfold", dir: "ltr" }, `show ${count(parts.length - 2 * ends)} more tokens of the prompt`);
  button.addEventListener("click", () => unfold(middle));
  return [...blocks(parts.slice(0, ends)), button, middle, ...blocks(parts.slice(-ends))];
}

// Blocks of pieces that end with a line: the browser styles and paints only the blocks in view.
function blocks(parts) {
  const found = [];
  let length = 0;
  for (const part of parts) {
    if (length === 0) found.push([]);
    found.at(-1).push(part);
    length = part.textContent.endsWith("\n") && length >= BLOCK ? 0 : length + 1;
  }
  return found.map((block) => element("div", { className: "lines" }, ...block));
}

function unfold(middle) {
  middle.hidden = false;
  middle.previousSibling.remove();
}

class HeatMap {
  // With `answersOnly`, the turns of the prompt are left out.
  constructor(example, label, answersOnly = false) {
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
    this.element = element("div", { className: "tokens", tabIndex: 0, role: "group", dir: "auto", translate: false, "aria-label": label }, ...this.turns(answersOnly));
  }

  // A block for each run of prompt or answer, which runs in the direction of its own text.
  turns(answersOnly) {
    const { pieces } = this.example, levels = this.example.column(this.example.levels);
    const isPrompt = ({ start, stop }) => levels.subarray(start, stop).every((level) => level === PROMPT);
    const turns = [];
    pieces.forEach((piece, number) => {
      const prompt = isPrompt(piece);
      if (turns.at(-1)?.prompt !== prompt) turns.push({ prompt, parts: [] });
      turns.at(-1).parts.push(this.parts[number]);
    });
    return turns.filter(({ prompt }) => !(prompt && answersOnly)).map(({ prompt, parts }) =>
      element("div", { className: prompt ? "turn asked" : "turn", dir: "auto" }, ...(prompt && parts.length > FOLDED.from ? fold(parts) : blocks(parts))));
  }

  // Marks the pieces that were searched for.
  mark(hits) {
    this.parts.forEach((part, number) => part.toggleAttribute("data-hit", hits[number] ?? false));
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
