// What the page knows, read once from its data block. Pictures and classes go by their numbers.

const data = JSON.parse(document.getElementById("data").textContent);
const label = decoded(data.label, Int32Array);              // (pictures,) class of each
const neighbour = decoded(data.neighbour, Int32Array);      // (opened * depth,) pictures, nearest first
const similarity = decoded(data.similarity, Float32Array);  // (opened * depth,)
const shown = decoded(data.shown, Int32Array);              // (points,) pictures in the map
const point = decoded(data.point, Float32Array);            // (points * 2,)
const unreadable = new Set(data.unreadable);
const classes = data.classes.map(([name, images, queries, hits, takenFor], number) => ({
  number, name, label: data.full[number] ?? name, images, queries, hits, takenFor, group: data.group[number], recall: queries ? hits / queries : NaN,
}));

const tested = classes.some((line) => line.queries);       // else nothing can be a hit or a miss

// Base64 of a little-endian array.
function decoded(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

function classOf(picture) {
  return classes[label[picture]];
}

// The neighbours of an image that can be opened: [{picture, similarity, kind}]; "other" where nothing is a hit.
function neighboursOf(picture) {
  const {queries} = classOf(picture);
  return Array.from({length: data.depth}, (_, rank) => {
    const place = picture * data.depth + rank;
    const found = neighbour[place];
    return {picture: found, similarity: similarity[place], kind: queries ? hitOrMiss(picture, found) : "other"};
  });
}

function hitOrMiss(picture, found) {
  return label[found] === label[picture] ? "hit" : "miss";
}

// "hit" or "miss" by the nearest image; "lonely" where there is nothing to find.
function verdict(picture) {
  if (!classOf(picture).queries) return "lonely";
  return hitOrMiss(picture, neighbour[picture * data.depth]);
}

const WORDS = {
  hit: "the nearest image is of this class",
  miss: "the nearest image is of another class",
  lonely: "no other image of this class can be found",
};

// The file of a picture with its folder.
function pathOf(picture) {
  return `${data.folders[data.folder[picture]]}/${data.files[picture]}`;
}

function percent(share) {
  return Number.isNaN(share) ? "–" : `${(100 * share).toFixed(1)} %`;
}

function many(number, what) {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : what.endsWith("s") ? "es" : "s"}`;
}

function byId(name) {
  return document.getElementById(name);
}

// A name, which may be broken behind a full stop and the like.
function named(text) {
  const parts = text.split(/(?<=[._/-])/);
  return make("bdi", {}, ...parts.flatMap((part, i) => (i ? [make("wbr"), part] : [part])));
}

// An element with attributes, of which `text` becomes its text, and children. Names from outside enter the page only here,
// as text or as the value of an attribute, never as markup.
function make(tag, {text, ...attributes} = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
