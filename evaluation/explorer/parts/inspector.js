// The image that is open: its neighbours, and its class.

const inspector = byId("inspector");
let opened = -1, openedFrom = null;

function buildInspector() {
  rove(inspector, () => [...inspector.querySelectorAll("button[data-picture]")]);
  inspector.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-picture]");
    if (button?.getAttribute("aria-disabled") === "false") {
      open(Number(button.dataset.picture), {enter: event.detail === 0});
    }
  });
  inspector.append(make("p", {class: "hint", text: "Choose an image to see its nearest neighbours."}));
}

// Show an image. from: the element to go back to by Escape; enter: take the focus along, as the keyboard asks for.
function open(picture, {from = openedFrom, enter = false, remember = true} = {}) {
  opened = picture;
  openedFrom = from;
  if (remember && location.hash !== `#${picture}`) location.hash = picture;
  const found = neighboursOf(picture);
  inspector.replaceChildren(titleOf(picture), summaryOf(picture, found), formOf(picture), make("h3", {text: nearestTitle()}), listOf(found),
                            ...classPart(classOf(picture)));
  inspector.scrollTop = 0;
  document.body.classList.add("opened");
  showOpen(picture);
  makeCurrent(inspector, inspector.querySelector("button[data-picture]"));
  byId("said").textContent = `${name(picture)}: ${score(found) || WORDS.lonely}`;
  if (enter) inspector.querySelector("button[data-picture]").focus();
  drawMap();
}

function close() {
  document.body.classList.remove("opened");
  (openedFrom?.isConnected ? openedFrom : inGrid[0])?.focus();
}

// Nothing where there is nothing to find.
function score(found) {
  if (found.some(({kind}) => kind === "other")) return "";
  return `${found.filter(({kind}) => kind === "hit").length} of the ${found.length} nearest images are hits`;
}

function nearestTitle() {
  return data.gallery ? "Nearest images of the gallery" : "Nearest images";
}

function titleOf(picture) {
  const button = make("button", {type: "button", class: "close", "aria-label": "Close", text: "✕"});
  button.addEventListener("click", close);
  return make("div", {class: "title"}, make("h2", {id: "picked"}, named(classOf(picture).label)), button);
}

function summaryOf(picture, found) {
  const kind = verdict(picture);
  const words = WORDS[kind][0].toUpperCase() + WORDS[kind].slice(1);
  const large = paint(make("span", {class: "large", role: "img", "aria-label": name(picture)}), picture);
  return make("div", {class: "summary"}, large, make("div", {},
    make("p", {class: `verdict ${kind}`}, sign(kind), `${words}.`), make("p", {text: score(found) && `${score(found)}.`}),
    make("p", {class: "file", title: pathOf(picture)}, named(belowRoot(picture))),
    unreadable.has(picture) ? make("p", {text: "The image file could not be read."}) : ""));
}

function sign(kind) {
  return make("span", {class: "mark", "aria-hidden": "true", text: {hit: "✓", miss: "✕", lonely: "–"}[kind]});
}

function listOf(found) {
  return make("ol", {class: "near"}, ...found.map((entry, rank) => make("li", {}, cardOf(entry, rank + 1))));
}

// A neighbour; one that is no test image of the page has no neighbours of its own to go on to.
function cardOf({picture, similarity: score, kind}, rank) {
  const leads = picture < data.opened;
  const words = `${rank}: ${kind === "other" ? "" : `${kind}, `}${name(picture)}, similarity ${score.toFixed(2)}`;
  const button = make("button", {type: "button", class: `card ${kind}`, tabindex: -1, "data-picture": picture,
                                 "aria-label": words, "aria-disabled": !leads, title: `${data.files[picture]}\n${classOf(picture).label}\n${pathOf(picture)}`},
                      paint(make("span"), picture), kind === "other" ? "" : sign(kind), named(classOf(picture).name),
                      make("span", {class: "score", text: score.toFixed(2)}));
  return button;
}

function classPart(line) {
  const facts = line.queries
    ? `R@1 ${percent(line.recall)}: ${line.hits} of ${many(line.queries, "image")} hit${line.queries === 1 ? "s" : ""}.`
    : "None of its images has another of the class to find.";
  const taken = line.takenFor.slice(0, 8).map((pair) => make("li", {}, confusionButton(line, pair)));
  return [make("h3", {text: "Its class"}), make("p", {text: facts}),
          taken.length ? make("p", {text: "Taken for"}) : "",
          taken.length ? make("ul", {class: "taken"}, ...taken) : "",
          make("p", {}, classButton([line.number], "Show this class alone"))];
}
