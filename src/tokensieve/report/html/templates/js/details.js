// The details of the token that is pointed at or moved to.

class Details {
  // `panel` shows them, only the cause if `brief`; `picked` is called after a click on a token.
  constructor(area, selection, { panel, brief = false, picked = () => {} }) {
    Object.assign(this, { area, selection, panel, brief, example: null, maps: [], number: null, arm: null });
    // Not pointerover, which also comes where the page moves under a pointer that rests.
    area.addEventListener("pointermove", (event) => this.pickEvent(event));
    area.addEventListener("click", (event) => { this.pickEvent(event); picked(); });
    area.addEventListener("keydown", (event) => this.walk(event));
  }

  // Takes the maps of an example, and shows the details of its picked piece.
  show(example, maps) {
    Object.assign(this, { example, maps });
    this.refresh();
  }

  refresh() {
    if (this.maps.length) this.pick(this.number, this.maps.some(({ arm }) => arm === this.arm) ? this.arm : this.maps[0].arm, false);
  }

  pickEvent(event) {
    const piece = event.target.closest?.("[data-piece]");
    if (!piece) return;
    const number = Number(piece.dataset.piece), { arm } = piece.closest("[data-arm]").dataset;
    if (number !== this.number || arm !== this.arm) this.pick(number, arm, false);
  }

  // Shows the details of a piece of the example, for one arm.
  pick(number, arm, scroll) {
    this.number = number;
    this.arm = arm;
    this.area.querySelectorAll(".picked").forEach((old) => old.classList.remove("picked"));
    this.panel.classList.toggle("idle", number === null);
    if (number === null) {
      this.panel.replaceChildren(element("p", { className: "soft" }, "Point at a token to see its statistics and why it is kept or dropped."));
      return;
    }
    for (const span of this.area.querySelectorAll(`[data-piece="${number}"]`)) {
      span.classList.add("picked");
      const folded = scroll ? span.closest(".fold[hidden]") : null;
      if (folded) unfold(folded);
      if (scroll && span.closest("[data-arm]").dataset.arm === arm) span.scrollIntoView({ block: "nearest" });
    }
    const facts = pieceFacts(this.example, number, this.selection.arms.get(arm), this.selection, arm);
    const seen = new Set(); // each term is explained once
    const parts = facts.length > 1 ? [element("p", { className: "soft" }, `${facts.length} tokens make up this character.`)] : [];
    this.panel.replaceChildren(element("h4", {}, tokenName(this.example.pieces[number].text)), ...parts,
      ...facts.flatMap(({ facts: pairs, why, rule, fate }) => [
        element("p", { className: `why ${fate}-note` }, ...withTerms(this.brief ? why : `${why} ${rule}`, this.selection.payload.terms, seen)),
        ...this.otherFate(number, arm),
        ...(this.brief ? [] : [element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]))]),
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

  walk(event) {
    const map = event.target.closest("[data-arm]");
    if (!map) return;
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || (!by && event.key !== "Home" && event.key !== "End")) return;
    event.preventDefault();
    const numbers = [...map.querySelectorAll("[data-piece]")].map((part) => Number(part.dataset.piece));
    const last = numbers.length - 1, at = numbers.indexOf(this.number);
    const start = at < 0 && by < 0 ? last + 1 : at;
    const target = event.key === "Home" ? 0 : event.key === "End" ? last : start + by;
    this.pick(numbers[Math.min(last, Math.max(0, target))], map.dataset.arm, true);
    this.say();
  }

  // Announces the picked token to screen readers.
  say() {
    document.getElementById("said").textContent = this.panel.textContent;
  }
}
