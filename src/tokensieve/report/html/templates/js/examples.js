// The examples view: the list of examples, the one that is shown, its colouring, and the arm to compare with.

const EXAMPLE_STATE = ["value", "other", "only", ...FILTER_STATE, "hits", "example", "token"];

class Examples {
  constructor(payload, selection, store) {
    Object.assign(this, { payload, selection, store, at: 0, shown: null, maps: [], turn: 0 });
    const get = (id) => document.getElementById(id);
    this.area = get("example");
    this.choice = new Choice(payload, selection, store);
    this.filters = new Filters(payload);
    this.details = new Details(this.area, selection, {
      panel: element("aside", { id: "detail", className: "detail", tabIndex: 0, "aria-label": "Token details" }), picked: () => this.changed?.(),
    });
    this.rows = new Rows(get("rows"), (place) => this.rowOf(place), (at) => this.step(at - this.at));
    this.menus = { value: get("value"), other: get("other"), only: get("only"), goto: get("goto") };
    fillMenu(this.menus.value, [["score", "score"], ...payload.statistics.map((name) => [name, name]), ["", "none"]]);
    this.filters.listen(() => this.find(), () => this.arrange());
    for (const name of ["value", "other"]) this.menus[name].addEventListener("change", () => this.draw());
    this.menus.only.addEventListener("change", () => { this.showOnly(); this.changed?.(); });
    this.menus.goto.addEventListener("change", () => this.goTo(Number(this.menus.goto.value)));
    this.menus.goto.addEventListener("input", () => this.menus.goto.setCustomValidity(""));
    get("example-bar").addEventListener("submit", (event) => event.preventDefault());
    get("clear").addEventListener("click", () => { this.clear(); this.find(); });
    get("previous").addEventListener("click", () => this.step(-1));
    get("next").addEventListener("click", () => this.step(1));
    get("list").open = matchMedia("(min-width: 52rem)").matches;
    get("sample-note").textContent = payload.index.rows.length < payload.examples
      ? `The page holds ${count(payload.index.rows.length)} of ${count(payload.examples)} examples: those that lost the most and the fewest tokens, those on which methods disagree most, and an even sample. To see all, run tokensieve serve.`
      : "";
  }

  get arm() {
    return document.getElementById("arm").value;
  }

  // What is shown, as pairs for the address.
  state() {
    const { value, other, only } = this.menus, place = this.choice.places[this.at], { hits } = this.choice, { number } = this.details;
    return [
      ["value", value.value === "score" ? null : value.value || "none"], ["other", other.value], ["only", only.checked ? "1" : null],
      ...this.filters.state(), ["hits", hits && hitsText(hits)],
      ["example", place === undefined ? null : this.payload.index.numbers[place]],
      ["token", number === null ? null : this.example.pieces[number].start],
    ];
  }

  async restore(state) {
    const { menus } = this, turn = ++this.turn;
    menus.only.checked = state.has("only");
    choose(menus.value, state.get("value") === "none" ? "" : state.get("value") ?? "score");
    this.filters.restore(state);
    await Promise.all([this.choice.look(this.filters.query), this.choice.setHits(readHits(state.get("hits")))]);
    if (turn !== this.turn) return;
    const place = this.payload.index.numbers.indexOf(Number(state.get("example") ?? NaN));
    if (place >= 0) this.wanted = place;
    if (place >= 0 && state.has("token")) this.wantedToken = Number(state.get("token"));
    return this.setArm(state.get("other") ?? "");
  }

  setArm(chosen = this.menus.other.value) {
    const others = this.payload.arms.map((arm) => arm.name).filter((name) => name !== this.arm);
    fillMenu(this.menus.other, [["", "none"], ...others.map((name) => [name, name])], others.includes(chosen) ? chosen : "");
    return this.arrange(true);
  }

  // Lists the examples again; keeps the current one if it is still among them.
  async arrange(stay = false) {
    const here = this.wanted ?? this.choice.places[this.at];
    if (!(await this.choice.arrange(this.arm, this.filters.wanted))) return;
    this.wanted = null;
    this.at = Math.max(0, stay ? this.choice.places.indexOf(here) : -1);
    return this.draw();
  }

  // Lists the examples again once the slider rests; the example in view stays, if it passes the filters.
  follow() {
    clearTimeout(this.following);
    this.following = setTimeout(async () => {
      const { places } = this.choice;
      if (!(await this.choice.arrange(this.arm, this.filters.wanted))) return;
      this.at = this.choice.places.indexOf(places[this.at]); // the reader may have gone on meanwhile
      if (this.at >= 0) return this.showPlace();
      this.at = 0;
      return this.draw();
    }, 150);
  }

  async find() {
    if (await this.choice.look(this.filters.query, () => this.arrange(true))) await this.arrange(true);
  }

  // Takes every filter away.
  clear() {
    this.filters.clear();
    this.choice.setHits(null);
  }

  goTo(number) {
    const place = this.payload.index.numbers.indexOf(number), { goto } = this.menus;
    goto.setCustomValidity(place < 0 ? `The page does not hold an example ${number}.` : "");
    if (place < 0) return goto.reportValidity();
    this.wanted = place;
    if (!this.choice.places.includes(place)) this.clear();
    return this.find();
  }

  // A row of the list: the example's number, what is kept of it, its mean score and what else sorts it.
  rowOf(place) {
    const { index, sources } = this.payload, share = this.choice.kept[place] / index.trainable[place];
    const bar = element("span", { className: "bar-of" }, element("span"));
    bar.firstChild.style.setProperty("width", `${100 * share}%`);
    const score = index.scores[this.arm][place], disputed = index.disputed[place];
    const notes = [`score ${figure(score)}`, ...(disputed ? [`${count(disputed)} disputed`] : []), ...(sources.length > 1 ? [sources[index.sources[place]]] : [])];
    return [
      element("span", { className: "number" }, `${count(index.numbers[place])}`), bar, element("span", { className: "share" }, percent(share)),
      element("span", { className: "soft notes" }, notes.join(" · ")),
    ];
  }

  showPlace() {
    const { places, hits } = this.choice, get = (id) => document.getElementById(id);
    get("place").textContent = places.length ? `${count(this.at + 1)} of ${count(places.length)}` : "none";
    get("previous").disabled = this.at <= 0;
    get("next").disabled = this.at >= places.length - 1;
    const held = this.payload.index.rows.length, all = this.payload.examples;
    get("listed").textContent = `${count(places.length)} of ${count(held)}${held < all ? ` (${count(all)} in all)` : ""}${this.choice.running ? ", searching …" : ""}`;
    get("hits").textContent = hits ? `with ${hitsName(hits, this.payload)}` : "";
    get("clear").disabled = places.length === held;
    this.rows.show(places, this.at);
    this.changed?.();
  }

  step(by) {
    const at = this.at + by;
    if (at < 0 || at >= this.choice.places.length) return;
    this.at = at;
    this.details.number = null;
    return this.draw();
  }

  async draw() {
    this.showPlace();
    const { places } = this.choice;
    if (!places.length) {
      this.maps = this.details.maps = [];
      const { problem } = this.choice, none = "No example matches. Shorten the search, or clear the filters.";
      return this.area.replaceChildren(empty(problem ? `The search failed: ${problem}` : none));
    }
    const place = places[this.at];
    const example = await this.store.example(place);
    if (place !== this.choice.places[this.at]) return;
    if (this.shown !== place) this.details.number = null;
    this.shown = place;
    this.example = example;
    if (this.wantedToken !== undefined) this.details.number = example.pieces.findIndex(({ stop }) => this.wantedToken < stop);
    this.wantedToken = undefined;
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
    const { query } = this.filters, { hits: wanted } = this.choice;
    const hits = wanted ? hitPieces(example, wanted) : query ? foundPieces(example, query) : [];
    if (wanted) this.details.number ??= hitToExplain(example, hits, arm, this.selection.setting(arm));
    this.maps = (other ? [arm, other] : [arm]).map((which) => {
      const values = name ? example.column(name === "score" ? `value:score:${which}` : `value:${name}`) : null;
      const scale = name ? payload.scales[name === "score" ? `score:${which}` : name] : null;
      const map = new HeatMap(example, `Tokens of example ${index.numbers[place]}, ${which}`);
      map.mark(hits);
      map.element.dataset.arm = which;
      const range = payload.ranges[name === "score" ? `score:${which}` : name];
      const ends = other && range ? `; ${name} from ${figure(range.low)} to ${figure(range.high)}` : "";
      return { arm: which, values, scale, map, ends, said: element("span", { className: "soft" }) };
    });
    const sections = this.maps.map(({ arm: which, map, said }) => element("section", { className: "map" }, element("h4", {}, which, " ", said), map.element));
    const difference = other ? [element("p", { className: "soft", id: "difference" })] : [];
    const body = element("div", { className: other ? "maps two" : "maps" }, ...sections, this.details.panel);
    this.area.replaceChildren(element("article", { className: "card example" }, head, ...difference, body));
    if (focus) this.maps.find((shown) => shown.arm === focus)?.map.element.focus({ preventScroll: true });
    this.details.show(example, this.maps);
    this.paint();
    (this.area.querySelector(".picked") ?? this.area.querySelector("[data-hit]"))?.scrollIntoView({ block: "nearest" });
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
    this.details.refresh();
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
    if (!onlyFirst && !onlySecond) return `${a} and ${b} keep the same tokens of it.`;
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
}
