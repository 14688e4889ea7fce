// The address of the page holds what is shown, so that a reload or a link shows the same: "#VIEW?NAME=VALUE&…".

const VIEWS = ["overview", "selection", "examples", "run"];

// The view and the state of an address; the state is null where the address has a view alone.
function readAddress() {
  const [view, state] = location.hash.slice(1).split("?");
  return { view: VIEWS.includes(view) ? view : "overview", state: state === undefined ? null : new URLSearchParams(state) };
}

function writeAddress(view, pairs) {
  const state = new URLSearchParams(pairs.filter(([, value]) => value !== null && value !== "")).toString();
  const hash = `#${view}${state ? `?${state}` : ""}`;
  if (hash !== location.hash && (state || view !== "overview" || location.hash)) history.replaceState(null, "", hash);
}

// Selects an entry of a menu, if it has it.
function choose(menu, value) {
  if (value !== null && [...menu.options].some((option) => option.value === value)) menu.value = value;
}
