// Starts the page: views, their shared controls, and keys.

async function start() {
  const payload = await readPayload();
  const get = (id) => document.getElementById(id);
  const selection = new Selection(payload);
  const overview = new Overview(payload, selection);
  const store = new Store(payload);
  const examples = new Examples(payload, selection, store);
  const drawn = new Set();
  let view = "overview";
  let pending = new URLSearchParams(); // what the address says of examples, until they are drawn

  fillMenu(get("arm"), payload.arms.map((arm) => [arm.name, arm.name]), payload.method);
  const arm = () => get("arm").value;

  function showControls() {
    const { sweep, note } = selection.arms.get(arm());
    const adjustable = selection.adjustable(arm()), total = selection.total(arm());
    Object.assign(get("ratio"), { max: sweep.values.length - 1, value: selection.setting(arm()), disabled: !adjustable });
    const name = sweep.parameter ?? "ratio", value = selection.byCount(arm()) ? "by number" : adjustable ? figure(sweep.values[selection.setting(arm())]) : "–";
    get("ratio-name").textContent = name[0].toUpperCase() + name.slice(1);
    get("ratio-value").textContent = value;
    get("ratio").setAttribute("aria-valuetext", `${name} ${value}, ${percent(total.kept / total.all)} kept`);
    get("kept-share").textContent = percent(total.kept / total.all);
    get("kept-count").textContent = `kept: ${count(total.kept)} of ${count(total.all)} tokens`;
    get("own").disabled = !adjustable || selection.isOwn(arm());
    get("recipe").textContent = selection.recipe(arm());
    get("copy").disabled = !adjustable || !get("recipe").textContent;
    get("control-note").textContent = note;
  }

  // Writes what is shown into the address.
  function remember() {
    const shown = drawn.has("examples") ? examples.state() : EXAMPLE_STATE.map((name) => [name, pending.get(name)]);
    const settings = payload.arms.filter((one) => !selection.isOwn(one.name))
      .map((one) => [`at.${one.name}`, figure(one.sweep.values[selection.setting(one.name)]).replace("−", "-")]);
    writeAddress(view, [["arm", arm() === payload.method ? null : arm()], ...settings, ...shown]);
  }

  // Shows what an address says.
  function restore(state) {
    get("arm").value = payload.method;
    choose(get("arm"), state.get("arm"));
    for (const { name, sweep } of payload.arms) {
      const wanted = Number(state.get(`at.${name}`) ?? NaN);
      selection.set(name, Number.isNaN(wanted) || sweep.parameter === null ? sweep.own : d3.leastIndex(sweep.values, (a, b) => Math.abs(a - wanted) - Math.abs(b - wanted)));
    }
    pending = state;
    if (drawn.has("examples")) examples.restore(state);
  }

  let card = null;
  const drawCard = () => { card ??= drawVerdict(payload, store); };

  function drawView() {
    if (view === "overview" && !drawn.has(view)) { overview.drawResults(); drawCard(); }
    if (view === "run" && !drawn.has(view)) overview.drawTraining();
    if (view === "selection") overview.drawSelection(arm());
    if (view === "examples" && drawn.has(view)) { examples.paint(); examples.follow(); }
    if (view === "examples" && !drawn.has(view)) examples.restore(pending);
    drawn.add(view);
    remember();
  }

  function showView(focus) {
    const address = readAddress();
    view = address.view;
    if (address.state) {
      restore(address.state);
      showControls();
    }
    document.body.dataset.view = view;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.dataset.view === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    get("controls").hidden = view !== "selection" && view !== "examples";
    drawView();
    if (focus) window.scrollTo(0, 0);
  }

  let waiting = false;
  function setRatio(setting) {
    const { sweep } = selection.arms.get(arm());
    selection.set(arm(), Math.min(sweep.values.length - 1, Math.max(0, setting)));
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      showControls();
      drawView();
    });
  }

  get("ratio").addEventListener("input", () => setRatio(Number(get("ratio").value)));
  get("own").addEventListener("click", () => setRatio(selection.arms.get(arm()).sweep.own));
  get("arm").addEventListener("change", () => {
    showControls();
    if (drawn.has("examples")) examples.setArm();
    if (view !== "examples") drawView();
    remember();
  });
  get("controls").addEventListener("submit", (event) => event.preventDefault());
  get("copy").addEventListener("click", async () => {
    const done = (text) => {
      get("copy").textContent = text;
      setTimeout(() => { get("copy").textContent = "Copy for recipe"; }, 1500);
    };
    try {
      await navigator.clipboard.writeText(get("recipe").textContent);
      done("Copied");
    } catch {
      get("recipe-line").classList.add("asked");
      getSelection().selectAllChildren(get("recipe"));
      done("Selected");
    }
  });
  window.addEventListener("beforeprint", () => {
    overview.drawResults();
    overview.drawTraining();
    overview.drawAll(arm());
  });
  window.addEventListener("hashchange", () => showView(true));
  onKeys({
    ...Object.fromEntries(VIEWS.map((name, i) => [String(i + 1), () => { location.hash = name; }])),
    n: () => view === "examples" && examples.step(1),
    p: () => view === "examples" && examples.step(-1),
    "/": () => { if (view !== "examples") location.hash = "examples"; setTimeout(() => get("search").focus()); },
    "[": () => selection.adjustable(arm()) && setRatio(selection.setting(arm()) - 1),
    "]": () => selection.adjustable(arm()) && setRatio(selection.setting(arm()) + 1),
  });
  examples.changed = () => drawn.has("examples") && remember();
  showControls();
  showView(false);
  document.body.classList.add("ready");
  setTimeout(drawCard); // in every view: a print has it
}

start().catch((error) => {
  const notice = document.createElement("p");
  notice.className = "notice";
  notice.setAttribute("role", "alert");
  notice.textContent = `The page cannot show its data: ${error.message}. It needs a browser released in 2023 or later.`;
  document.querySelector("main").prepend(notice);
  throw error;
});
