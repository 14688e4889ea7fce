// The fields above the list of examples: search, order, and filters.

const RANGES = { keptRange: ["kept-from", "kept-to"], scoreRange: ["score-from", "score-to"] };
const FILTER_FIELDS = ["order", "source", "search", "disputed", ...Object.values(RANGES).flat()];
const FILTER_STATE = ["order", "source", "search", "disputed", ...Object.keys(RANGES)];

class Filters {
  constructor(payload) {
    this.fields = Object.fromEntries(FILTER_FIELDS.map((id) => [id, document.getElementById(id)]));
    const { order, source, disputed } = this.fields;
    const isDisputed = d3.some(payload.index.disputed, (n) => n > 0);
    const sources = d3.groupSort(payload.index.sources, (rows) => -rows.length, (number) => number);
    const orders = Object.keys(ORDERS).filter((name) => (name !== "most disputed" || isDisputed) && (name !== "by source" || sources.length > 1));
    fillMenu(order, orders.map((name) => [name, name]));
    fillMenu(source, [["", "all"], ...sources.map((number) => [number, payload.sources[number]])]);
    source.closest("label").hidden = sources.length < 2;
    disputed.closest("label").hidden = !isDisputed;
  }

  // Calls back after a change: of the search once typing pauses, of everything else at once.
  listen(onSearch, onFilter) {
    let waiting = 0;
    const now = () => { clearTimeout(waiting); onSearch(); };
    this.fields.search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(onSearch, 250); });
    document.getElementById("list-bar").addEventListener("submit", (event) => { event.preventDefault(); now(); });
    for (const [id, field] of Object.entries(this.fields)) if (id !== "search") field.addEventListener("change", onFilter);
  }

  get query() {
    return this.fields.search.value.trim();
  }

  // The order and the filters; a filter that is not set is null.
  get wanted() {
    const { order, source, disputed } = this.fields;
    return {
      order: order.value, source: source.value === "" ? null : Number(source.value), disputed: disputed.checked,
      kept: this.range("keptRange"), score: this.range("scoreRange"),
    };
  }

  // The bounds that two fields hold; null where both are empty.
  range(name) {
    const ends = RANGES[name].map((id) => this.fields[id].value);
    return ends.every((end) => end === "") ? null : ends.map((end, side) => (end === "" ? (side ? Infinity : -Infinity) : Number(end)));
  }

  // What is set, as pairs for the address.
  state() {
    const { order, source, disputed } = this.fields;
    const ranges = Object.entries(RANGES).map(([name, ids]) => [name, this.range(name) && ids.map((id) => this.fields[id].value).join("~")]);
    return [["order", order.value === "in order" ? null : order.value], ["source", source.value], ["search", this.query], ["disputed", disputed.checked ? "1" : null], ...ranges];
  }

  restore(state) {
    this.fields.search.value = state.get("search") ?? "";
    this.fields.disputed.checked = state.has("disputed");
    for (const [name, ids] of Object.entries(RANGES)) ids.forEach((id, side) => { this.fields[id].value = state.get(name)?.split("~")[side] ?? ""; });
    choose(this.fields.order, state.get("order") ?? "in order");
    choose(this.fields.source, state.get("source") ?? "");
  }

  // Takes every filter away; the order stays.
  clear() {
    this.restore(new URLSearchParams({ order: this.fields.order.value }));
  }
}
