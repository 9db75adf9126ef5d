const find = (id) => document.getElementById(id);
let photograph = null;
let latest = 0;

const say = (text, isError = false) => {
  find("status").textContent = text;
  find("status").classList.toggle("error", isError);
};

const element = (kind, text) => {
  const node = document.createElement(kind);
  node.textContent = text;
  return node;
};

const card = (hit) => {
  const item = document.createElement("li");
  const image = document.createElement("img");
  image.alt = hit.path;
  image.src = `/image/${hit.row}`;
  const similarity = element("span", hit.similarity.toFixed(4));
  item.append(image, element("strong", hit.class), similarity, element("span", hit.path));
  return item;
};

const ask = async () => {
  const parameters = new URLSearchParams({k: find("k").value || "12"});
  if (find("least").value !== "") parameters.set("min_similarity", find("least").value);
  const answer = await fetch(`/search?${parameters}`, {method: "POST", body: photograph});
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content.hits;
};

const search = async () => {
  if (!photograph) return;
  const own = ++latest;
  say("Searching ...");
  try {
    const hits = await ask();
    // a later search has begun
    if (own !== latest) return;
    find("hits").replaceChildren(...hits.map(card));
    say(hits.length ? `${hits.length} images, the nearest first` : "No image is as similar as that.");
  } catch (error) {
    if (own !== latest) return;
    find("hits").replaceChildren();
    const lost = error instanceof TypeError;
    say(lost ? "The photograph cannot be sent: it is too large, or the server has stopped." : error.message, true);
  }
};

const take = (file) => {
  if (!file) return;
  photograph = file;
  const preview = find("query");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  search();
};

find("form").addEventListener("submit", (event) => event.preventDefault());
find("file").addEventListener("change", (event) => take(event.target.files[0]));
find("k").addEventListener("change", search);
find("least").addEventListener("change", search);
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  find("drop").classList.add("over");
});
document.addEventListener("dragleave", () => find("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});
document.documentElement.dataset.ready = "";
