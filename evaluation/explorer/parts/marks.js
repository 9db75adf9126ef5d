// What the user noted of images: {label, duplicate, note} of a picture, each where it is given. label: the right class;
// duplicate: the picture that it repeats. The browser keeps them, for every page of the same images and classes.

const marks = readMarks();
const markFollowers = [];
const NUMBER = /^[+-]?\d+(\.0*)?$/;
const FORMULA = /^[=+\-@\t\r']/;             // what a spreadsheet would compute, as utilities/cells.py has it

function readMarks() {
  try {
    const kept = JSON.parse(localStorage.getItem(data.store)) ?? [];
    return new Map(kept.filter(([picture]) => picture < data.opened));
  } catch {
    return new Map();
  }
}

// Whether the browser keeps them; some keep nothing of files.
function keepMarks() {
  try {
    localStorage.setItem(data.store, JSON.stringify([...marks]));
    return true;
  } catch {
    return false;
  }
}

// Change what is noted of a picture; an empty value takes that part away.
function noteMark(picture, changes) {
  const entries = Object.entries({...marks.get(picture), ...changes}).filter(([, value]) => value !== "");
  if (entries.length) marks.set(picture, Object.fromEntries(entries));
  else marks.delete(picture);
  const kept = keepMarks();
  markFollowers.forEach((follow) => follow(picture, kept));
}

// The picture that stands for this one in the end; undefined where duplicates go round in a circle.
function originalOf(picture) {
  const met = new Set();
  while (marks.get(picture)?.duplicate !== undefined) {
    if (met.has(picture)) return undefined;
    met.add(picture);
    picture = marks.get(picture).duplicate;
  }
  return picture;
}

// A typed name as the class of the page that it means, or as it is. The readers know 3, 03 and 3.0 as one.
function knownLabel(text) {
  const typed = text.normalize("NFC").trim();
  return classes.find((line) => sameName(line.label) === sameName(typed))?.label ?? typed;
}

function sameName(text) {
  const name = text.normalize("NFC").trim();
  return NUMBER.test(name) ? String(BigInt(name.split(".")[0])) : name;
}

function wordsOf({label: right, duplicate, note}) {
  return [right === undefined ? "" : `Wrong label, right: ${right}`,
          duplicate === undefined ? "" : `Duplicate of ${data.files[duplicate]}`,
          note === undefined ? "" : `Note: ${note}`].filter(Boolean);
}

// ------------------------------------------------------------------------------------------------------- the table

// The lines of the corrected labels.csv: every image of the page but duplicates, which the line of their original names.
// Readers of labels.csv take path and label; the other columns are for people.
function correctedTable() {
  const pictures = listedPictures().filter(isWritable);
  const repeats = new Map();
  for (const picture of pictures.filter(isLeftOut)) {
    const original = originalOf(picture);
    repeats.set(original, [...(repeats.get(original) ?? []), tablePath(picture)]);
  }
  const lines = pictures.filter((picture) => !isLeftOut(picture)).map((picture) => {
    const {label: right, note = ""} = marks.get(picture) ?? {};
    const own = classOf(picture).label;
    const text = [right ?? own, right === undefined ? "" : own, note, (repeats.get(picture) ?? []).join("; ")];
    return [tablePath(picture), ...text.map(plainCell)];
  });
  return [["path", "label", "label_before", "note", "duplicates"], ...lines];
}

function isLeftOut(picture) {
  return ![picture, undefined].includes(originalOf(picture));
}

// The images that the table names: not those of a gallery.
function listedPictures() {
  return Array.from({length: data.listed}, (_, picture) => picture);
}

// Whether the readers find the file: not by characters that no text has, by \ or by C:, or by a space at the end.
function isWritable(picture) {
  return !/[\ufffd\\]|^(\.\/)?[a-z]:|\s$/i.test(tablePath(picture));
}

// The path from data.root, of an image that the table names.
function belowRoot(picture) {
  return pathOf(picture).slice(data.root.length).replace(/^\/+/, "");
}

// The same for the table; ./ stands before what a spreadsheet would compute, since the name must stay.
function tablePath(picture) {
  const path = belowRoot(picture);
  return FORMULA.test(path) || path !== path.trimStart() ? `./${path}` : path;
}

function plainCell(text) {
  return FORMULA.test(text) ? `'${text}` : text;
}

function asCsv(lines) {
  const quoted = (cell) => (/[",\r\n]|^\s|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
}

function saveMarks() {
  const address = URL.createObjectURL(new Blob([asCsv(correctedTable())], {type: "text/csv"}));
  make("a", {href: address, download: "labels.csv"}).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
