// The list of examples: of many thousands, only the rows in view are in the document.

const ROW = 44; // pixels; the style sheet has the same height
const BEYOND = 6; // rows above and below those in view

class Rows {
  // `fill` returns the content of a row, by the place of its example; `go` is told which row was picked.
  constructor(area, fill, go) {
    Object.assign(this, { area, fill, go, places: [], at: 0 });
    this.list = element("ol");
    area.replaceChildren(this.list);
    area.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(area);
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest("li");
      if (row) this.go(Number(row.dataset.at));
    });
  }

  show(places, at) {
    const moved = places !== this.places || at !== this.at;
    Object.assign(this, { places, at });
    this.list.style.setProperty("height", `${ROW * places.length}px`);
    const { scrollTop, clientHeight } = this.area;
    if (moved && clientHeight && (ROW * at < scrollTop || ROW * (at + 1) > scrollTop + clientHeight)) {
      this.area.scrollTop = ROW * at - clientHeight / 3;
    }
    this.draw();
  }

  draw() {
    const { scrollTop, clientHeight } = this.area;
    if (!clientHeight) return;
    const focused = this.list.contains(document.activeElement) ? Number(document.activeElement.closest("li").dataset.at) : null;
    const first = Math.max(0, Math.floor(scrollTop / ROW) - BEYOND);
    const last = Math.min(this.places.length, Math.ceil((scrollTop + clientHeight) / ROW) + BEYOND);
    this.list.replaceChildren(...d3.range(first, last).map((at) => this.row(at)));
    if (focused !== null) this.list.querySelector(`[data-at="${focused}"] button`)?.focus({ preventScroll: true });
  }

  row(at) {
    const button = element("button", { type: "button" }, ...this.fill(this.places[at]));
    if (at === this.at) button.setAttribute("aria-current", "true");
    const row = element("li", { "aria-setsize": this.places.length, "aria-posinset": at + 1 }, button);
    row.dataset.at = at;
    row.style.setProperty("top", `${ROW * at}px`);
    return row;
  }
}
