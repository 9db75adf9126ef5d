// Thumbnails, and how the arrow keys go from one to the next.

const PER_SHEET = data.columns * data.rows;

// Give an element the thumbnail of a picture as its background; --s of the style is the side at which it is shown.
function paint(element, picture) {
  const cell = picture % PER_SHEET;
  element.classList.add("thumb", `a${Math.floor(picture / PER_SHEET)}`);
  element.style.setProperty("--x", cell % data.columns);
  element.style.setProperty("--y", Math.floor(cell / data.columns));
  return element;
}

function name(picture) {
  return `${classOf(picture).name}, ${data.files[picture]}${unreadable.has(picture) ? ", cannot be read" : ""}`;
}

// One button of a group can be reached by Tab; the arrow keys go to the others. buttons(): those to be seen, in order.
function rove(container, buttons) {
  container.addEventListener("focusin", ({target}) => {
    if (target.matches("button[data-picture]")) makeCurrent(container, target);
  });
  container.addEventListener("keydown", (event) => {
    const all = buttons();
    const here = all.indexOf(document.activeElement);
    if (here < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = goal(all, here, event.key);
    if (next === undefined) return;
    event.preventDefault();
    all[next].focus();
  });
}

function makeCurrent(container, button) {
  container.querySelector("button[tabindex='0']")?.setAttribute("tabindex", -1);
  button?.setAttribute("tabindex", 0);
}

// The place that a key leads to from a place; undefined for other keys and beyond the ends.
function goal(all, here, key) {
  const last = all.length - 1;
  const steps = {ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: last};
  if (key in steps) return steps[key] < 0 || steps[key] > last ? undefined : steps[key];
  if (key === "ArrowDown") return inRow(all, here, 1);
  if (key === "ArrowUp") return inRow(all, here, -1);
  return undefined;
}

// The place in the next row, 1 down or -1 up, that lies nearest across. Buttons run in rows, so that only those on the way
// are measured.
function inRow(all, here, way) {
  const from = all[here].getBoundingClientRect();
  let best, distance = Infinity, row;
  for (let i = here + way; i >= 0 && i < all.length; i += way) {
    const box = all[i].getBoundingClientRect();
    if (Math.abs(box.top - from.top) < from.height / 2) continue;
    row ??= box.top;
    if (Math.abs(box.top - row) > from.height / 2) break;
    if (Math.abs(box.left - from.left) < distance) [best, distance] = [i, Math.abs(box.left - from.left)];
  }
  return best;
}
