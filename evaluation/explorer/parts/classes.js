// The table of classes, and which they are taken for.

const CHUNK = 200;             // lines added at a time
const NAMED = 3;               // classes named in a line
let lineLimit = CHUNK;

function buildClasses() {
  onChange(() => { lineLimit = CHUNK; refreshClasses(); });
  byId("more").addEventListener("click", () => {
    const first = lineLimit;
    lineLimit += CHUNK;
    refreshClasses();
    byId("lines").rows[first]?.querySelector("button")?.focus();
  });
}

function refreshClasses() {
  const lines = wantedClasses();
  byId("lines").replaceChildren(...lines.slice(0, lineLimit).map(buildLine));
  const left = lines.length - lineLimit;
  byId("more").hidden = left <= 0;
  byId("more").textContent = `Show ${Math.min(left, CHUNK)} more of ${left.toLocaleString("en")}`;
}

function buildLine(line) {
  const bar = make("span", {class: "gauge", "aria-hidden": "true"});
  bar.style.setProperty("--share", line.queries ? line.recall : 0);
  const others = line.takenFor.slice(0, NAMED).map((pair) => confusionButton(line, pair));
  const rest = line.takenFor.length - NAMED;
  return make("tr", {}, make("th", {scope: "row"}, classButton([line.number], line.name)),
              make("td", {class: "recall"}, bar, make("span", {text: percent(line.recall)})),
              make("td", {class: "number", text: line.images.toLocaleString("en")}),
              make("td", {class: "others"}, ...others, rest > 0 ? make("span", {class: "rest", text: `+ ${rest}`}) : ""));
}

// A button that shows the images of these classes alone.
function classButton(numbers, text, ...more) {
  const button = make("button", {type: "button", class: "link"}, named(text), ...more);
  button.addEventListener("click", () => { askOnly(numbers); view("images"); inGrid[0]?.focus(); });
  return button;
}

function confusionButton(line, [other, count]) {
  const button = classButton([line.number, other], classes[other].name, make("b", {text: ` ${count}`}));
  button.setAttribute("aria-label", `${count} of ${line.name} taken for ${classes[other].name}: show both`);
  return button;
}
