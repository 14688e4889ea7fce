"use strict";
const panel = document.getElementById("detail");
let picked = null;
function pick(token) {
  if (picked) picked.classList.remove("picked");
  picked = token;
  panel.hidden = !token;
  if (!token) return;
  token.classList.add("picked");
  token.scrollIntoView({ block: "nearest" });
  panel.textContent = token.title;
}
for (const block of document.querySelectorAll(".tokens")) {
  const tokens = Array.from(block.querySelectorAll("[title]"));
  block.addEventListener("click", (event) => pick(event.target.closest("[title]")));
  block.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") pick(null);
    if (!step || !tokens.length) return;
    event.preventDefault();
    const from = tokens.indexOf(picked);
    const to = from < 0 ? (step > 0 ? 0 : tokens.length - 1) : from + step;
    pick(tokens[Math.min(Math.max(to, 0), tokens.length - 1)]);
  });
}
