// The examples view: the example shown, its colouring, and the arm to compare with.

const ORDERS = {
  "in order": null,
  "most dropped": (index, kept) => (i) => kept[i] / index.trainable[i],
  "least dropped": (index, kept) => (i) => -kept[i] / index.trainable[i],
  "most disputed": (index) => (i) => -index.disputed[i],
};

const COUNTED = 2000; // examples of a served page that are counted at any setting; of more, the run's own setting counts

const EXAMPLE_STATE = ["value", "other", "order", "source", "search", "only", "example"];

class Examples {
  constructor(payload, selection, store) {
    Object.assign(this, { payload, selection, store, at: 0, found: null, picked: null, shown: null, maps: [], turn: 0, sorting: 0, tallies: new Map() });
    const get = (id) => document.getElementById(id);
    this.menus = { value: get("value"), other: get("other"), order: get("order"), source: get("source"), search: get("search"), only: get("only") };
    this.order = d3.range(payload.index.rows.length);
    this.fillMenus();
    for (const name of ["value", "other"]) this.menus[name].addEventListener("change", () => this.draw());
    for (const name of ["order", "source"]) this.menus[name].addEventListener("change", () => this.arrange());
    this.menus.only.addEventListener("change", () => { this.showOnly(); this.changed?.(); });
    let waiting = 0;
    this.menus.search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => this.find(), 200); });
    get("example-bar").addEventListener("submit", (event) => { event.preventDefault(); this.find(); });
    get("previous").addEventListener("click", () => this.step(-1));
    get("next").addEventListener("click", () => this.step(1));
    this.area = get("example");
    this.area.addEventListener("pointerover", (event) => this.pickEvent(event));
    this.area.addEventListener("click", (event) => this.pickEvent(event));
  }

  fillMenus() {
    const { payload, menus } = this;
    fillMenu(menus.value, [["score", "score"], ...payload.statistics.map((name) => [name, name]), ["", "none"]]);
    const orders = Object.keys(ORDERS).filter((name) => name !== "most disputed" || d3.some(payload.index.disputed, (n) => n > 0));
    fillMenu(menus.order, orders.map((name) => [name, name]));
    const sources = d3.groupSort(payload.index.sources, (rows) => -rows.length, (source) => source);
    fillMenu(menus.source, [["", "all"], ...sources.map((source) => [source, payload.sources[source]])]);
    document.getElementById("source-field").hidden = sources.length < 2;
    document.getElementById("sample-note").textContent = payload.index.rows.length < payload.examples
      ? `${count(payload.index.rows.length)} of ${count(payload.examples)} examples: those that lost the most and the fewest tokens, those on which methods disagree most, and an even sample. To see all of them, run tokensieve serve.`
      : "Point at a token, or move through the text with the arrow keys, to see its statistics.";
  }

  get arm() {
    return document.getElementById("arm").value;
  }

  // What is shown, as pairs for the address.
  state() {
    const { value, other, order, source, search, only } = this.menus, place = this.order[this.at];
    const pairs = { value: value.value === "score" ? null : value.value || "none", other: other.value, source: source.value, search: search.value.trim() };
    pairs.order = order.value === "in order" ? null : order.value;
    pairs.only = only.checked ? "1" : null;
    pairs.example = place === undefined ? null : this.payload.index.numbers[place];
    return Object.entries(pairs);
  }

  async restore(state) {
    const { menus } = this, query = state.get("search") ?? "";
    Object.assign(menus.search, { value: query });
    Object.assign(menus.only, { checked: state.has("only") });
    choose(menus.value, state.get("value") === "none" ? "" : state.get("value") ?? "score");
    choose(menus.order, state.get("order") ?? "in order");
    choose(menus.source, state.get("source") ?? "");
    const turn = ++this.turn, found = query ? await this.store.search(query) : null;
    if (turn !== this.turn) return;
    this.found = found;
    if (state.has("example")) this.wanted = this.payload.index.numbers.indexOf(Number(state.get("example")));
    return this.setArm(state.get("other") ?? "");
  }

  setArm(chosen = this.menus.other.value) {
    const others = this.payload.arms.map((arm) => arm.name).filter((name) => name !== this.arm);
    fillMenu(this.menus.other, [["", "none"], ...others.map((name) => [name, name])], others.includes(chosen) ? chosen : "");
    this.arrange(true);
  }

  // Sorts the examples that match search and source; keeps the current one if it is still among them.
  async arrange(stay = false) {
    const { index } = this.payload, { order, source } = this.menus, turn = ++this.sorting;
    const kept = order.value.endsWith("dropped") ? await this.keptNow(this.arm) : null;
    if (turn !== this.sorting) return;
    const here = this.wanted ?? this.order[this.at];
    this.wanted = null;
    let places = this.found ?? d3.range(index.rows.length);
    if (source.value !== "") places = places.filter((i) => index.sources[i] === Number(source.value));
    const by = ORDERS[order.value]?.(index, kept);
    this.order = by ? d3.sort(places, by) : places;
    this.at = Math.max(0, stay ? this.order.indexOf(here) : -1);
    return this.draw();
  }

  // Sorts again after the slider has moved, where the order depends on it; the example in view stays.
  async follow() {
    if (!this.menus.order.value.endsWith("dropped") || !this.order.length) return;
    const turn = ++this.sorting, { index } = this.payload, here = this.order[this.at];
    const kept = await this.keptNow(this.arm);
    if (turn !== this.sorting) return;
    this.order = d3.sort(this.order, ORDERS[this.menus.order.value](index, kept));
    this.at = this.order.indexOf(here);
    this.showPlace();
  }

  // Kept tokens of every example of the page, at the current setting.
  async keptNow(arm) {
    const { index, remote } = this.payload, setting = this.selection.setting(arm);
    if (this.selection.isOwn(arm) || (remote && index.rows.length > COUNTED)) return index.kept[arm];
    if (!this.tallies.has(arm)) this.tallies.set(arm, this.tally(arm));
    return (await this.tallies.get(arm)).map((sums) => sums[setting]);
  }

  // Of every example, the number of tokens that each setting keeps.
  async tally(arm) {
    const settings = this.selection.arms.get(arm).sweep.values.length;
    const found = [];
    for (let place = 0; place < this.payload.index.rows.length; place++) {
      const counts = new Uint32Array(settings);
      for (const level of (await this.store.example(place)).column(`level:${arm}`)) if (level < settings) counts[level]++;
      found.push(d3.cumsum(counts));
    }
    return found;
  }

  showPlace() {
    document.getElementById("place").textContent = this.order.length ? `${count(this.at + 1)} of ${count(this.order.length)}` : "none";
    document.getElementById("previous").disabled = this.at <= 0;
    document.getElementById("next").disabled = this.at >= this.order.length - 1;
    this.changed?.();
  }

  async find() {
    const query = this.menus.search.value.trim(), turn = ++this.turn;
    const found = query ? await this.store.search(query) : null;
    if (turn !== this.turn) return;
    this.found = found;
    await this.arrange(true);
  }

  step(by) {
    const at = this.at + by;
    if (at < 0 || at >= this.order.length) return;
    this.at = at;
    this.picked = null;
    return this.draw();
  }

  async draw() {
    this.showPlace();
    if (!this.order.length) {
      this.maps = [];
      return this.area.replaceChildren(empty("No example matches. Shorten the search, or select all sources."));
    }
    const place = this.order[this.at];
    const example = await this.store.example(place);
    if (place !== this.order[this.at]) return;
    if (this.shown !== place) this.picked = null;
    this.shown = place;
    this.example = example;
    this.drawExample();
  }

  // Leaves only the tokens on which two arms differ in colour, if that is wanted.
  showOnly() {
    document.body.classList.toggle("only-differences", this.menus.only.checked && this.menus.other.value !== "");
  }

  // Builds the loaded example.
  drawExample() {
    const { payload, example, arm } = this, { index } = payload, place = this.shown;
    const other = this.menus.other.value, name = this.menus.value.value;
    const focus = document.activeElement?.classList.contains("tokens") ? document.activeElement.dataset.arm : null;
    this.drawScale(name, arm);
    document.body.classList.toggle("comparing", other !== "");
    this.showOnly();
    const head = element("header", {}, element("h3", {}, `Example ${count(index.numbers[place])} `,
      element("span", { className: "soft" }, `source row ${count(index.rows[place])}${payload.sources.length > 1 ? ` · ${payload.sources[index.sources[place]]}` : ""} · ${count(index.tokens[place])} tokens, ${count(index.trainable[place])} trainable`)));
    this.maps = (other ? [arm, other] : [arm]).map((which) => {
      const values = name ? example.column(name === "score" ? `value:score:${which}` : `value:${name}`) : null;
      const scale = name ? payload.scales[name === "score" ? `score:${which}` : name] : null;
      const map = new HeatMap(example, `Tokens of example ${index.numbers[place]}, ${which}`);
      map.element.dataset.arm = which;
      map.element.addEventListener("keydown", (event) => this.walk(event, map.element));
      const range = payload.ranges[name === "score" ? `score:${which}` : name];
      const ends = other && range ? `; ${name} from ${figure(range.low)} to ${figure(range.high)}` : "";
      return { arm: which, values, scale, map, ends, said: element("span", { className: "soft" }) };
    });
    const sections = this.maps.map(({ arm: which, map, said }) => element("section", { className: "map" }, element("h4", {}, which, " ", said), map.element));
    const difference = other ? [element("p", { className: "soft", id: "difference" })] : [];
    const detail = element("aside", { id: "detail", className: "detail", "aria-label": "Token details" });
    const body = element("div", { className: other ? "maps two" : "maps" }, ...sections, detail);
    this.area.replaceChildren(element("article", { className: "card example" }, head, ...difference, body));
    if (focus) this.maps.find((shown) => shown.arm === focus)?.map.element.focus({ preventScroll: true });
    this.paint();
  }

  // Shows the current decisions in the example that is built; the slider calls this.
  paint() {
    if (!this.maps.length) return;
    const { example, maps } = this;
    const states = maps.map(({ arm }) => ({ levels: example.column(`level:${arm}`), setting: this.selection.setting(arm) }));
    maps.forEach(({ values, scale, map, said, ends }, side) => {
      map.paint(states[side], maps.length > 1 ? states[1 - side] : null, values, scale);
      said.textContent = this.keeps(states[side]) + ends;
    });
    if (maps.length > 1) document.getElementById("difference").textContent = this.difference(...states, ...maps.map(({ arm }) => arm));
    this.pick(this.picked, this.pickedArm ?? maps[0].arm, false);
  }

  keeps({ levels, setting }) {
    let kept = 0, all = 0;
    for (const level of levels) {
      all += level !== PROMPT;
      kept += level <= setting;
    }
    return `keeps ${count(kept)} of ${count(all)} tokens (${percent(all ? kept / all : 0)})`;
  }

  difference(first, second, a, b) {
    let onlyFirst = 0, onlySecond = 0;
    first.levels.forEach((level, i) => {
      if (level === PROMPT) return;
      const [x, y] = [level <= first.setting, second.levels[i] <= second.setting];
      onlyFirst += x && !y;
      onlySecond += y && !x;
    });
    return `${a} keeps ${count(onlyFirst)} tokens that ${b} drops; ${b} keeps ${count(onlySecond)} tokens that ${a} drops.`;
  }

  drawScale(name, arm) {
    const legend = document.querySelector(".legend .scale"), scale = this.payload.scales[name === "score" ? `score:${arm}` : name];
    legend.hidden = !scale;
    if (!scale) return;
    const { low, high, least, most } = this.payload.ranges[name === "score" ? `score:${arm}` : name];
    const levels = d3.range(scaleLevel(scale, low), scaleLevel(scale, high) + 1); // those that values have
    document.getElementById("ramp").replaceChildren(...levels.map((level) => element("span", { className: levelClass(level, scale.signed) })));
    document.getElementById("scale-low").textContent = `${least < low ? "≤ " : ""}${figure(low)}`;
    document.getElementById("scale-name").textContent = name;
    document.getElementById("scale-high").textContent = `${most > high ? "≥ " : ""}${figure(high)}`;
  }

  pickEvent(event) {
    const piece = event.target.closest?.("[data-piece]");
    if (piece) this.pick(Number(piece.dataset.piece), piece.closest(".tokens").dataset.arm, false);
  }

  // Shows the details of a piece of the example, for one arm.
  pick(number, arm, scroll) {
    this.picked = number;
    this.pickedArm = arm;
    this.area.querySelectorAll(".picked").forEach((old) => old.classList.remove("picked"));
    const detail = document.getElementById("detail");
    detail.classList.toggle("idle", number === null);
    if (number === null) {
      detail.replaceChildren(element("p", { className: "soft" }, "Point at a token to see its statistics and why it is kept or dropped."));
      return;
    }
    for (const span of this.area.querySelectorAll(`[data-piece="${number}"]`)) {
      span.classList.add("picked");
      const folded = scroll ? span.closest(".fold[hidden]") : null;
      if (folded) unfold(folded);
      if (scroll && span.closest(".tokens").dataset.arm === arm) span.scrollIntoView({ block: "nearest" });
    }
    const facts = pieceFacts(this.example, number, this.selection.arms.get(arm), this.selection, arm);
    const parts = facts.length > 1 ? [element("p", { className: "soft" }, `${facts.length} tokens make up this character.`)] : [];
    detail.replaceChildren(element("h4", {}, tokenName(this.example.pieces[number].text)), ...parts,
      ...facts.flatMap(({ facts: pairs, why: reason, fate }) => [
        element("p", { className: `why ${fate}-note` }, reason),
        ...this.otherFate(number, arm),
        element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
      ]));
  }

  // What the other arm of a comparison does with the token that is picked, where it differs.
  otherFate(number, arm) {
    const { start } = this.example.pieces[number];
    const keeps = ({ arm: name }) => this.example.column(`level:${name}`)[start] <= this.selection.setting(name);
    const own = this.maps.find((map) => map.arm === arm), other = this.maps.find((map) => map.arm !== arm);
    if (!own || !other || keeps(own) === keeps(other)) return [];
    return [element("p", { className: "other-fate" }, `${arm} ${keeps(own) ? "keeps" : "drops"} it; ${other.arm} ${keeps(other) ? "keeps" : "drops"} it.`)];
  }

  walk(event, map) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || (!by && event.key !== "Home" && event.key !== "End")) return;
    event.preventDefault();
    const last = this.example.pieces.length - 1;
    const start = this.picked ?? (by > 0 ? -1 : last + 1);
    const target = event.key === "Home" ? 0 : event.key === "End" ? last : start + by;
    this.pick(Math.min(last, Math.max(0, target)), map.dataset.arm, true);
    this.say();
  }

  // Announces the picked token to screen readers.
  say() {
    const detail = document.getElementById("detail");
    document.getElementById("said").textContent = detail.textContent;
  }
}
