// Where marks are made, in the inspector, and the list of all, where they are undone and saved.

let markForm = null;           // of the image that is open
let unnamed;                   // images that no table can name, once they are counted

function buildMarks() {
  byId("names").append(...byName.map((line) => make("option", {value: line.label})));
  byId("save").addEventListener("click", saveMarks);
  markFollowers.push(showMarks);
  showMarks();
}

function formOf(picture) {
  const fields = [labelField(picture), duplicateField(picture), noteField(picture)];
  markForm = make("details", {class: "marking"}, make("summary", {}),
    ...fields.map(([words, field]) => make("label", {}, make("span", {text: words}), field)), make("p", {class: "noted", role: "status"}));
  markForm.open = marks.has(picture);
  showForm(picture);
  return markForm;
}

function labelField(picture) {
  const field = make("input", {list: "names", autocomplete: "off", spellcheck: "false", name: "label",
                               placeholder: "as it is", value: marks.get(picture)?.label ?? ""});
  field.addEventListener("change", () => {
    const right = knownLabel(field.value);
    field.value = right === classOf(picture).label ? "" : right;
    noteMark(picture, {label: field.value});
  });
  return ["Right class", field];
}

// The nearest images are offered; one that is itself a duplicate of this one cannot be chosen.
function duplicateField(picture) {
  const chosen = marks.get(picture)?.duplicate;
  const options = neighboursOf(picture).map(({picture: other}, rank) => {
    const option = make("option", {value: other, text: `${rank + 1}: ${name(other)}`});
    option.disabled = originalOf(other) === picture && other !== chosen;
    option.selected = other === chosen;
    return option;
  });
  const field = make("select", {name: "duplicate"}, make("option", {value: "", text: "none"}), ...options);
  field.addEventListener("change", () => noteMark(picture, {duplicate: field.value && Number(field.value)}));
  return ["Duplicate of", field];
}

function noteField(picture) {
  const field = make("input", {name: "note", autocomplete: "off", value: marks.get(picture)?.note ?? ""});
  field.addEventListener("change", () => noteMark(picture, {note: field.value.trim()}));
  return ["Note", field];
}

function showForm(picture, kept = true) {
  const noted = marks.has(picture);
  markForm.firstChild.textContent = noted ? "Marked" : "Mark this image";
  const undo = make("button", {type: "button", class: "chip", text: "Undo"});
  undo.addEventListener("click", () => {
    undoMark(picture);
    markForm.firstChild.focus();
  });
  const lost = kept ? "" : " This browser does not keep marks: save them before you leave.";
  markForm.lastChild.replaceChildren(...(noted ? [`${wordsOf(marks.get(picture)).join(". ")}.${lost}`, undo] : []));
}

function undoMark(picture) {
  noteMark(picture, {label: "", duplicate: "", note: ""});
  if (picture === opened) markForm.replaceWith(formOf(picture));
}

// "m" opens the form of the open image.
function startMarking() {
  if (!markForm) return;
  markForm.open = true;
  markForm.querySelector("input").focus();
}

// ----------------------------------------------------------------------------------------------------------- all marks

// The number of marks, their list and the signs in the grid; picture: the one that was changed, none for all.
function showMarks(picture, kept) {
  byId("tab-marks").textContent = marks.size ? `Marks (${marks.size})` : "Marks";
  byId("save").hidden = !marks.size;
  byId("marks").replaceChildren(...[...marks.keys()].map(markLine));
  byId("marks-words").textContent = wordsOfMarks();
  for (const changed of picture === undefined ? marks.keys() : [picture]) {
    thumbnailOf(changed).classList.toggle("noted", marks.has(changed));
  }
  if (picture !== undefined && picture === opened) showForm(picture, kept);
}

function wordsOfMarks() {
  if (!marks.size) return "No image is marked. Open one, then choose “Mark this image” or press m.";
  unnamed ??= listedPictures().filter((picture) => !isWritable(picture)).length;
  const missing = unnamed ? ` ${many(unnamed, "image")} cannot be named in a table and will be missing.` : "";
  return `${many(marks.size, "image")} marked. labels.csv will name the images of this page with the right classes, ` +
    `without duplicates; its paths begin in ${data.root || "the folder that the command ran in"}.${missing}`;
}

function markLine(picture) {
  const show = make("button", {type: "button", class: "link"}, paint(make("span"), picture),
                    make("span", {}, named(classOf(picture).name), make("small", {}, named(belowRoot(picture)))));
  show.addEventListener("click", (event) => open(picture, {from: show, enter: event.detail === 0}));
  const undo = make("button", {type: "button", class: "chip", text: "Undo", "aria-label": `Undo the mark of ${name(picture)}`});
  undo.addEventListener("click", () => {
    const place = [...byId("marks").children].indexOf(undo.parentElement);
    undoMark(picture);
    const left = byId("marks").querySelectorAll(".chip");
    (left[Math.min(place, left.length - 1)] ?? byId("tab-marks")).focus();
  });
  return make("li", {}, show, make("span", {class: "words", text: wordsOf(marks.get(picture)).join(". ")}), undo);
}
