// Words that need an explanation: each is a button, which opens what it means beside it.

const ROOM = 140; // pixels that a definition takes below its term

// Text as nodes, with a button for the first occurrence of each term that was not seen before. A term stays in one line, with
// the brackets and stops around it.
function withTerms(text, terms, seen) {
  const names = Object.keys(terms).map((term) => term.replace(/[.*+?()[\]{}|^$\\]/g, "\\$&"));
  const [first, ...rest] = text.split(new RegExp(`(\\S*)\\b(${names.join("|")})\\b(\\S*)`));
  const nodes = [first];
  for (let i = 0; i < rest.length; i += 4) {
    const [before, term, after, text] = rest.slice(i, i + 4);
    nodes.push(element("span", { className: "whole-term" }, before, seen.has(term) ? term : termButton(term, terms[term]), after), text);
    seen.add(term);
  }
  return nodes;
}

function termButton(term, meaning) {
  const button = element("button", { type: "button", className: "term", popoverTargetElement: document.getElementById("definition") }, term);
  button.addEventListener("click", () => define(button, meaning)); // the browser then opens or closes the definition
  return button;
}

// Explains the terms in texts of the page, each where it comes first.
function explain(selector, terms) {
  const seen = new Set();
  for (const one of document.querySelectorAll(selector)) one.replaceChildren(...withTerms(one.textContent, terms, seen));
}

// Fills the definition, and puts it below its term, or above where there is no room.
function define(button, meaning) {
  const definition = document.getElementById("definition"), { left, top, bottom } = button.getBoundingClientRect();
  const above = bottom + ROOM > innerHeight && top > ROOM;
  definition.replaceChildren(element("strong", {}, `${button.textContent}:`), ` ${meaning}`);
  definition.style.setProperty("--left", `${scrollX + left}px`);
  definition.style.setProperty("top", `${scrollY + (above ? top - 4 : bottom + 4)}px`);
  definition.style.setProperty("translate", above ? "0 -100%" : "none");
  document.getElementById("said").textContent = definition.textContent;
}
