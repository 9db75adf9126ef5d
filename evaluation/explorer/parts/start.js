// Views, filters, keys and the address: what ties the parts together.

const VIEWS = ["images", "classes", "map", "marks"].filter((view) => view !== "map" || shown.length);
const wide = matchMedia("(min-width: 56.25rem)");

function view(chosen, {focus = false} = {}) {
  for (const each of VIEWS) {
    const tab = byId(`tab-${each}`);
    tab.setAttribute("aria-selected", each === chosen);
    tab.tabIndex = each === chosen ? 0 : -1;
    byId(`view-${each}`).hidden = each !== chosen;
    if (focus && each === chosen) tab.focus();
  }
  document.body.dataset.view = chosen;
  drawMap();
}

function buildTabs() {
  byId("tab-map").hidden = !shown.length;
  VIEWS.forEach((each, here) => {
    byId(`tab-${each}`).addEventListener("click", () => view(each));
    byId(`tab-${each}`).addEventListener("keydown", ({key}) => {
      const step = {ArrowRight: 1, ArrowLeft: -1}[key];
      if (step) view(VIEWS[(here + step + VIEWS.length) % VIEWS.length], {focus: true});
    });
  });
}

function buildFilters() {
  byId("search").addEventListener("input", ({target}) => ask({text: target.value.trim().toLowerCase(), only: null}));
  byId("order").addEventListener("change", ({target}) => ask({order: target.value}));
  byId("misses").addEventListener("change", ({target}) => ask({misses: target.checked}));
}

// "/" goes to the search, "m" to the mark of the open image; Escape leaves the open image, then takes the filter away.
function onKey(event) {
  const writing = event.target.matches("input, select");
  if (event.key === "/" && !writing) {
    event.preventDefault();
    byId("search").focus();
  } else if (event.key === "m" && !writing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    startMarking();
  } else if (event.key === "Escape") {
    if (inspector.contains(event.target) || (!wide.matches && document.body.classList.contains("opened"))) close();
    else if (asked.only || asked.text) clearFilter();
  }
}

function clearFilter() {
  byId("search").value = "";
  ask({text: "", only: null});
}

// The number behind # in the address is the image that is open, so that the browser's Back goes to the one before.
function openAddressed() {
  const picture = /^#\d+$/.test(location.hash) ? Number(location.hash.slice(1)) : -1;
  if (picture >= 0 && picture < data.opened && picture !== opened) open(picture, {remember: false});
  return picture >= 0 && picture < data.opened;
}

// Where there is room, begin with a miss of the worst class.
function openFirst() {
  const from = inGrid.find((button) => button.matches(".miss")) ?? inGrid[0];
  open(Number(from.dataset.picture), {remember: false, from});
}

document.body.classList.toggle("untested", !tested);
buildTabs();
buildFilters();
buildGrid();
buildClasses();
buildMap();
buildInspector();
buildMarks();
ask({});
view("images");
document.addEventListener("keydown", onKey);
addEventListener("hashchange", openAddressed);
if (!openAddressed() && wide.matches && inGrid.length) openFirst();
document.documentElement.dataset.ready = "";
