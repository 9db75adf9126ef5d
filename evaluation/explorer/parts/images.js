// The thumbnails of all images that can be opened, in a group for each class.

const grid = byId("grid");
const groups = new Map();      // number of a class -> its element
let inGrid = [];               // buttons to be seen, in order
let current = null;            // the one of the image that is open

function buildGrid() {
  for (let picture = 0; picture < data.opened; picture++) {
    const line = classOf(picture);
    if (!groups.has(line.number)) groups.set(line.number, buildGroup(line));
    groups.get(line.number).lastChild.append(buildThumbnail(picture));
  }
  rove(grid, () => inGrid);
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-picture]");
    if (button) open(Number(button.dataset.picture), {from: button, enter: event.detail === 0});
  });
  onChange(refreshGrid);
}

function buildGroup(line) {
  const heading = make("h2", {}, make("bdi", {text: line.name}), make("span", {text: percent(line.recall)}));
  heading.title = line.label;
  return make("section", {class: "group"}, heading, make("div", {class: "cells"}));
}

function buildThumbnail(picture) {
  const kind = verdict(picture);
  const button = make("button", {type: "button", tabindex: -1, class: kind, "data-picture": picture,
                                 "aria-label": `${name(picture)}: ${WORDS[kind]}`});
  return paint(button, picture);
}

function refreshGrid() {
  const lines = wantedClasses().filter((line) => groups.has(line.number));
  inGrid = [];
  const seen = lines.map((line) => groups.get(line.number)).filter((group) => {
    const buttons = [...group.lastChild.children];
    buttons.forEach((button) => { button.hidden = asked.misses && !button.classList.contains("miss"); });
    const left = buttons.filter((button) => !button.hidden);
    group.style.setProperty("--n", left.length);
    inGrid.push(...left);
    return left.length;
  });
  grid.replaceChildren(...(seen.length ? seen : [emptyState()]));
  makeCurrent(grid, inGrid.includes(current) ? current : inGrid[0]);
  sayCount(seen.length);
}

// What stands in the grid where no image is asked for.
function emptyState() {
  const clear = make("button", {type: "button", class: "chip", text: "Show all images"});
  clear.addEventListener("click", () => {
    byId("misses").checked = false;
    asked.misses = false;
    clearFilter();
    byId("search").focus();
  });
  return make("p", {class: "empty"}, "No image fits the filters. ", clear);
}

function sayCount(number) {
  const count = byId("count");
  const words = many(inGrid.length, asked.misses ? "miss" : "image");
  const sign = make("span", {class: "sign", text: "✕"});
  count.replaceChildren(`${words} of ${many(number, "class")}`);
  if (tested) count.append(", each with its R@1 · ", sign, " nearest image is of another class");
  if (!asked.only) return;
  const names = [...asked.only].map((c) => classes[c].name);
  const clear = make("button", {type: "button", class: "chip", "aria-label": `Only ${names.join(" and ")}: show all again`},
                     make("bdi", {text: names.join(" and ")}), " ✕");
  clear.addEventListener("click", () => { ask({only: null}); byId("search").focus(); });
  count.append(" ", clear);
}

function thumbnailOf(picture) {
  return groups.get(label[picture]).querySelector(`[data-picture="${picture}"]`);
}

function showOpen(picture) {
  current?.classList.remove("open");
  current?.removeAttribute("aria-current");
  current = thumbnailOf(picture);
  current.classList.add("open");
  current.setAttribute("aria-current", "true");
  if (inGrid.includes(current)) makeCurrent(grid, current);
}
