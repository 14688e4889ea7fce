// The tokens kept at the current slider settings. A token is kept if its level is at most the setting (see `sweep`).

class Selection {
  constructor(payload) {
    this.payload = payload;
    this.arms = new Map(payload.arms.map((arm) => [arm.name, arm]));
    this.settings = new Map(payload.arms.map((arm) => [arm.name, arm.sweep.own]));
    this.tables = new WeakMap();
  }

  setting(arm) {
    return this.settings.get(arm);
  }

  set(arm, setting) {
    this.settings.set(arm, setting);
  }

  adjustable(arm) {
    return this.arms.get(arm).sweep.parameter !== null;
  }

  isOwn(arm) {
    return this.setting(arm) === this.arms.get(arm).sweep.own;
  }

  // Whether the arm keeps a number of tokens at its current setting, and so has no fraction to show.
  byCount(arm) {
    return this.arms.get(arm).count !== null && this.isOwn(arm);
  }

  // Kept and all tokens of each group, from a table of counts by level.
  counts(table, arm) {
    if (!this.tables.has(table)) this.tables.set(table, table.map((row) => Array.from(d3.cumsum(row))));
    const setting = this.setting(arm);
    return this.tables.get(table).map((sums) => ({ kept: sums[setting], all: sums.at(-1) }));
  }

  total(arm) {
    const groups = this.counts(this.payload.tables.class[arm], arm);
    return { kept: d3.sum(groups, (group) => group.kept), all: d3.sum(groups, (group) => group.all) };
  }

  // The frequent vocabulary tokens, each with the number that is kept, dropped and seen.
  words(arm) {
    const { tables, tokens } = this.payload;
    return this.counts(tables.token[arm], arm).map((row, i) => ({ ...row, ...tokens[i], dropped: row.all - row.kept }));
  }

  // Tokens that both arms keep, divided by tokens that at least one keeps.
  jaccard(first, second) {
    if (first === second) return 1;
    const pair = this.payload.joint.find(([a, b]) => (a === first && b === second) || (a === second && b === first));
    const [a, b, table] = pair;
    let both = 0, either = 0;
    const s = this.setting(a), t = this.setting(b);
    table.forEach((row, i) => row.forEach((count, j) => {
      if (i <= s && j <= t) both += count;
      if (i <= s || j <= t) either += count;
    }));
    return either ? both / either : 1;
  }

  threshold(arm) {
    return this.arms.get(arm).sweep.thresholds[this.setting(arm)];
  }

  // The recipe lines for the current setting, as YAML. Empty if no recipe can produce the arm.
  recipe(arm) {
    const { recipe, ratio, imported, sweep } = this.arms.get(arm);
    if (this.byCount(arm)) return "";
    const value = sweep.values[this.setting(arm)];
    if (imported && sweep.parameter) return `tokensieve import … --fraction ${value}`;
    if (!recipe) return "";
    if (sweep.parameter === "threshold") return `method: ${flow(recipe)}\nselect: ${flow({ threshold: value })}`;
    return `method: ${flow(sweep.parameter ? { ...recipe, [ratio]: value } : recipe)}`;
  }
}

function flow(value) {
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (value && typeof value === "object") {
    return `{${Object.entries(value).map(([key, item]) => `${key}: ${flow(item)}`).join(", ")}}`;
  }
  const plain = /^[A-Za-z][\w-]*$/.test(value) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(value);
  return plain ? String(value) : JSON.stringify(value);
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const count = (number) => number.toLocaleString("en-US");
const figure = (value) => (value === null || Number.isNaN(value) ? "–" : Number(value.toPrecision(4)).toString().replace("-", "−"));
