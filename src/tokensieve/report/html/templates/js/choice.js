// Which examples of the page are listed, and in which order.

const ORDERS = {
  "in order": null,
  "most dropped": ({ index, kept }) => (i) => kept[i] / index.trainable[i],
  "least dropped": ({ index, kept }) => (i) => -kept[i] / index.trainable[i],
  "highest mean score": ({ index, arm }) => (i) => -(index.scores[arm][i] ?? -Infinity),
  "lowest mean score": ({ index, arm }) => (i) => index.scores[arm][i] ?? Infinity,
  "by source": ({ index }) => (i) => index.sources[i],
  "most disputed": ({ index }) => (i) => -index.disputed[i],
};

const COUNTED = 2000; // examples of a served page that are counted at any setting; of more, the run's own setting counts

const AT_ONCE = 100, PAUSE = 300; // milliseconds before and between lists of what a search has found so far

class Choice {
  constructor(payload, selection, store) {
    Object.assign(this, { payload, selection, store, found: null, hits: null, hitPlaces: null, turn: 0, searching: null, running: false, problem: null, tallies: new Map() });
    this.places = d3.range(payload.index.rows.length);
  }

  // Searches the text, and calls back with what is found so far; false if a later search has begun, which ends this one.
  async look(query, soFar = () => {}) {
    this.searching?.abort();
    const { signal } = (this.searching = new AbortController());
    this.running = query !== "";
    const found = await this.tried(() => this.collect(query, signal, soFar), [], signal);
    if (signal.aborted) return false;
    this.running = false;
    this.found = found;
    return true;
  }

  // Positions of the examples that have the text, or null without a query.
  async collect(query, signal, soFar) {
    if (!query) return null;
    let found = [], due = performance.now() + AT_ONCE;
    for await (const places of this.store.search(query, signal)) {
      signal.throwIfAborted();
      found = found.concat(places);
      if (!found.length || performance.now() < due) continue;
      this.found = found;
      await soFar();
      due = performance.now() + PAUSE;
    }
    return found;
  }

  // Asks for the examples that have hits; without hits, every example.
  async setHits(hits) {
    this.hits = hits;
    this.hitPlaces = null;
    const places = hits && (await this.tried(() => this.store.withHits(hits), []));
    if (places && hits === this.hits) this.hitPlaces = new Set(places);
  }

  // What some work returns; `otherwise` if it fails, with the reason in `problem`.
  async tried(work, otherwise, signal) {
    this.problem = null;
    try {
      return await work();
    } catch (error) {
      if (!signal?.aborted) this.problem = error.message;
      return otherwise;
    }
  }

  // Lists the examples that pass every filter, in order; false if a later call has begun.
  async arrange(arm, { order, source, kept: keptRange, score: scoreRange, disputed }) {
    const turn = ++this.turn, { index } = this.payload;
    const kept = await this.keptNow(arm);
    if (turn !== this.turn) return false;
    this.kept = kept;
    const within = (value, [low, high]) => value !== null && value >= low && value <= high;
    const tests = [
      this.hitPlaces && ((i) => this.hitPlaces.has(i)),
      source !== null && ((i) => index.sources[i] === source),
      keptRange && ((i) => within((100 * kept[i]) / index.trainable[i], keptRange)),
      scoreRange && ((i) => within(index.scores[arm][i], scoreRange)),
      disputed && ((i) => index.disputed[i] > 0),
    ].filter(Boolean);
    const places = (this.found ?? d3.range(index.rows.length)).filter((i) => tests.every((test) => test(i)));
    const by = ORDERS[order]?.({ index, kept, arm });
    this.places = by ? d3.sort(places, by) : places;
    return true;
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
    for (const number of d3.range(this.payload.blocks.length)) {
      for (const example of (await this.store.block(number)).examples) {
        const counts = new Uint32Array(settings);
        for (const level of example.column(`level:${arm}`)) if (level < settings) counts[level]++;
        found.push(d3.cumsum(counts));
      }
    }
    return found;
  }
}
