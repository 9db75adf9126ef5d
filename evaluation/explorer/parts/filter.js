// What is asked for: which classes, in which order, all images or misses only. The views follow by onChange.

const asked = {text: "", only: null, misses: false, order: "worst"};
const followers = [];

function onChange(follow) {
  followers.push(follow);
}

function ask(changes) {
  Object.assign(asked, changes);
  followers.forEach((follow) => follow());
}

// Show these classes alone, as far as the filter is not used again.
function askOnly(numbers) {
  byId("search").value = "";
  ask({text: "", only: new Set(numbers)});
}

function wanted(line) {
  if (asked.only) return asked.only.has(line.number);
  return line.name.toLowerCase().includes(asked.text);
}

const ORDERS = {
  worst: (one, other) => place(one) - place(other),
  best: (one, other) => place(other) - place(one),
  name: () => 0,
};

// Where a class stands by R@1; one without queries stands behind all others, whichever way.
function place(line) {
  if (line.queries) return line.recall;
  return asked.order === "best" ? -1 : 2;
}

const alphabet = new Intl.Collator("en", {numeric: true});
const byName = classes.filter((line) => line.images)
  .sort((one, other) => alphabet.compare(one.name, other.name) || one.number - other.number);

// The classes that are asked for, in order; equal ones by name.
function wantedClasses() {
  return byName.filter(wanted).sort(ORDERS[asked.order]);
}
