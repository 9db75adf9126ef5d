// The map of the points that can be opened, as it is drawn.

const drawing = byId("drawing"), pen = drawing.getContext("2d");
const SHAPES = ["●", "▲", "■", "◆"], EDGE = 24, TILE = 40;     // EDGE, TILE: pixels around the map, side of an image in it
const camera = {scale: 1, x: 0, y: 0};      // x, y: the point of the map in the middle, of the unit square around 0
const spot = unitSquare();
const sheets = new Map();                   // number of a sheet -> its Image, once it is asked for
let atPoint = -1, withPictures = false;

// The points within -0.5 ... 0.5, without distortion.
function unitSquare() {
  const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
  point.forEach((value, i) => { low[i % 2] = Math.min(low[i % 2], value); high[i % 2] = Math.max(high[i % 2], value); });
  const size = Math.max(high[0] - low[0], high[1] - low[1]) || 1;
  return point.map((value, i) => (value - (low[i % 2] + high[i % 2]) / 2) / size);
}

function buildMap() {
  if (!shown.length) return;
  buildLegend();
  new ResizeObserver(drawMap).observe(drawing);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  onChange(drawMap);
  buildMoves();
}

// How the groups look, in the order of their numbers, as in embedding.png.
function shape(i) {
  return {colour: i % data.colours, form: Math.floor(i / data.colours) % SHAPES.length};
}

const styleOf = new Map(data.drawn.map((group, i) => [group, shape(i)]));

function buildLegend() {
  if (styleOf.size > data.legend) return;
  const count = new Map();
  shown.forEach((picture) => count.set(classOf(picture).group, (count.get(classOf(picture).group) ?? 0) + 1));
  byId("legend").append(...[...styleOf].map(([group, {colour, form}]) => make("li", {},
    make("span", {class: `key g${colour}`, "aria-hidden": "true", text: SHAPES[form]}),
    make("bdi", {text: data.groups[group]}), make("span", {text: ` ${count.get(group) ?? 0}`}))));
}

function side() {
  return Math.min(drawing.clientWidth, drawing.clientHeight) - 2 * EDGE;
}

function onScreen(i) {
  const scale = side() * camera.scale;
  return [drawing.clientWidth / 2 + (spot[2 * i] - camera.x) * scale,
          drawing.clientHeight / 2 + (spot[2 * i + 1] - camera.y) * scale];
}

function drawMap() {
  if (!shown.length || !drawing.clientWidth) return;
  const ratio = devicePixelRatio || 1, style = getComputedStyle(drawing);
  drawing.width = drawing.clientWidth * ratio;
  drawing.height = drawing.clientHeight * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const radius = Math.min(7, Math.max(2.5, 130 / Math.sqrt(shown.length))) * Math.min(2, camera.scale ** 0.25);
  const colours = Array.from({length: data.colours}, (_, i) => style.getPropertyValue(`--g${i}`));
  pen.strokeStyle = style.getPropertyValue("--page");
  shown.forEach((picture, i) => {
    const {colour, form} = styleOf.get(classOf(picture).group);
    pen.globalAlpha = wanted(classOf(picture)) && !(asked.misses && verdict(picture) !== "miss") ? 0.85 : 0.1;
    pen.fillStyle = colours[colour];
    trace(form, ...onScreen(i), radius);
    pen.fill();
    pen.stroke();
  });
  pen.globalAlpha = 1;
  if (withPictures) drawPictures(colours);
  drawOpen(radius, style);
}

// Images at their points, framed in the colour of their group, where no other lies.
function drawPictures(colours) {
  const taken = new Map();      // field of the screen -> the places in it
  shown.forEach((picture, i) => {
    const [x, y] = onScreen(i), field = [Math.floor(x / TILE), Math.floor(y / TILE)];
    if (x < 0 || y < 0 || x > drawing.clientWidth || y > drawing.clientHeight || !wanted(classOf(picture))) return;
    for (let dx = -1; dx <= 1; dx++) {
      for (let dy = -1; dy <= 1; dy++) {
        const other = taken.get(`${field[0] + dx} ${field[1] + dy}`);
        if (other && Math.max(Math.abs(other[0] - x), Math.abs(other[1] - y)) < TILE + 2) return;
      }
    }
    taken.set(field.join(" "), [x, y]);
    pen.fillStyle = colours[styleOf.get(classOf(picture).group).colour];
    pen.fillRect(x - TILE / 2, y - TILE / 2, TILE, TILE);
    drawPicture(picture, x - TILE / 2 + 2, y - TILE / 2 + 2, TILE - 4);
  });
}

function drawPicture(picture, x, y, size) {
  const sheet = sheetOf(picture), cell = picture % PER_SHEET, side = data.side;
  if (!sheet.complete) return;
  pen.drawImage(sheet, cell % data.columns * side, Math.floor(cell / data.columns) * side, side, side, x, y, size, size);
}

// The sheet of a picture as an image to draw from; the map is drawn again once it is there.
function sheetOf(picture) {
  const number = Math.floor(picture / PER_SHEET);
  if (!sheets.has(number)) {
    const image = new Image();
    sheets.set(number, image);
    image.addEventListener("load", drawMap);
    const rule = [...document.styleSheets[0].cssRules].find(({selectorText}) => selectorText === `.a${number}`);
    image.src = rule.style.backgroundImage.slice('url("'.length, -'")'.length);
  }
  return sheets.get(number);
}

function trace(form, x, y, r) {
  pen.beginPath();
  if (form === 0) pen.arc(x, y, r, 0, 2 * Math.PI);
  else if (form === 1) { pen.moveTo(x, y - r); pen.lineTo(x + r, y + r * 0.8); pen.lineTo(x - r, y + r * 0.8); pen.closePath(); }
  else if (form === 2) pen.rect(x - r * 0.85, y - r * 0.85, 1.7 * r, 1.7 * r);
  else { pen.moveTo(x, y - r); pen.lineTo(x + r, y); pen.lineTo(x, y + r); pen.lineTo(x - r, y); pen.closePath(); }
}

const RINGS = {hit: ["--hit", 2], miss: ["--miss", 2, [4, 3]], other: ["--quiet", 2]};

// Rings around the open image and its neighbours, solid for hits and dashed for misses, and around the point in focus.
function drawOpen(radius, style) {
  const place = new Map([...shown].map((picture, i) => [picture, i]));
  const ring = (i, r, colour, width, dash = []) => {
    pen.setLineDash(dash);
    pen.lineWidth = width;
    pen.strokeStyle = style.getPropertyValue(colour);
    trace(0, ...onScreen(i), r);
    pen.stroke();
  };
  if (opened >= 0) {
    for (const {picture, kind} of neighboursOf(opened)) {
      if (place.has(picture)) ring(place.get(picture), radius + 4, ...RINGS[kind]);
    }
    if (place.has(opened)) ring(place.get(opened), radius + 6, "--ink", 3);
  }
  if (atPoint >= 0) ring(atPoint, radius + 3, "--link", 2);
  pen.setLineDash([]);
  pen.lineWidth = 1;
}
