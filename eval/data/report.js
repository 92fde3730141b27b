"use strict";
const element = (id) => document.getElementById(id);
const cases = Array.from(document.querySelectorAll(".case"));
const fields = ["words", "outcome", "cause", "tag"].map(element);
const [words, outcome, cause, tag] = fields;
const texts = new Map();

// What a case says but for its sources: read once, when it is first looked for.
function text(row) {
  if (!texts.has(row)) {
    const parts = row.querySelectorAll(":scope > summary, dl, .verdicts, .source header");
    texts.set(row, Array.from(parts, (part) => part.textContent).join(" ").toLowerCase());
  }
  return texts.get(row);
}

function filter() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of cases) {
    const fits =
      (!outcome.value || row.dataset.outcome === outcome.value) &&
      (!cause.value || row.dataset.cause === cause.value) &&
      (!tag.value || JSON.parse(row.dataset.tags).includes(tag.value)) &&
      wanted.every((word) => text(row).includes(word));
    row.hidden = !fits;
    shown += fits ? 1 : 0;
  }
  const all = cases.length.toLocaleString("en");
  element("shown").textContent =
    shown === cases.length ? `${all} cases` : `${shown.toLocaleString("en")} of ${all} cases`;
}

function clear() {
  for (const field of fields) field.value = "";
}

function openNamed() {
  const row = location.hash.startsWith("#case-") ? element(location.hash.slice(1)) : null;
  if (!row) return;
  clear();
  filter();
  row.open = true;
  row.scrollIntoView();
}

let waiting = 0;
words.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, 150);
});
for (const field of [outcome, cause, tag]) field.addEventListener("change", filter);
element("all").addEventListener("click", () => {
  clear();
  filter();
});
for (const button of document.querySelectorAll("button[data-field]")) {
  button.addEventListener("click", () => {
    clear();
    element(button.dataset.field).value = button.dataset.value;
    filter();
    element("browse").scrollIntoView();
  });
}
addEventListener("hashchange", openNamed);
document.documentElement.classList.add("scripted");
filter(); // a browser may have kept what was typed
openNamed();
