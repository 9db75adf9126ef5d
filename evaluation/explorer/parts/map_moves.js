// The map is moved by dragging, wheel, pinch, buttons or keys; a point opens its image.

const tip = byId("tip");
const NEAR = 16, CLOSEST = 60;              // pixels around a point that belong to it; largest magnification
const fingers = new Map();                  // pointer -> {x, y}
let travelled = 0;

function buildMoves() {
  for (const [kind, react] of Object.entries({pointerdown: onDown, pointermove: onMove, pointerup: onUp,
                                              pointercancel: onUp, pointerleave: hideTip, wheel: onWheel,
                                              keydown: onMapKey, blur: hideTip})) {
    drawing.addEventListener(kind, react, {passive: false});
  }
  byId("zoom-in").addEventListener("click", () => zoom(1.5));
  byId("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
  byId("zoom-off").addEventListener("click", () => {
    Object.assign(camera, {scale: 1, x: 0, y: 0});
    limitZoom();
    drawMap();
  });
  limitZoom();
  byId("pictures").addEventListener("click", ({target}) => {
    withPictures = !withPictures;
    target.setAttribute("aria-pressed", withPictures);
    drawMap();
  });
}

// Zoom about a place of the drawing, its middle where none is given.
function zoom(factor, x = drawing.clientWidth / 2, y = drawing.clientHeight / 2) {
  const scale = Math.min(CLOSEST, Math.max(1, camera.scale * factor));
  const across = (x - drawing.clientWidth / 2) / side(), down = (y - drawing.clientHeight / 2) / side();
  camera.x += across / camera.scale - across / scale;
  camera.y += down / camera.scale - down / scale;
  camera.scale = scale;
  limitZoom();
  keepInside();
  drawMap();
}

// A button that can go no further says so.
function limitZoom() {
  byId("zoom-in").setAttribute("aria-disabled", camera.scale >= CLOSEST);
  byId("zoom-out").setAttribute("aria-disabled", camera.scale <= 1);
}

function pan(dx, dy) {
  camera.x -= dx / (side() * camera.scale);
  camera.y -= dy / (side() * camera.scale);
  keepInside();
  drawMap();
}

// No point of the map goes further than its edge allows.
function keepInside() {
  for (const axis of ["x", "y"]) camera[axis] = Math.min(0.5, Math.max(-0.5, camera[axis]));
}

function nearest(x, y, reach) {
  let best = -1, distance = reach;
  for (let i = 0; i < shown.length; i++) {
    const [px, py] = onScreen(i);
    const away = Math.hypot(px - x, py - y);
    if (away < distance && wanted(classOf(shown[i]))) [best, distance] = [i, away];
  }
  return best;
}

function onDown(event) {
  if (!fingers.size) travelled = 0;
  fingers.set(event.pointerId, {x: event.offsetX, y: event.offsetY});
  drawing.setPointerCapture(event.pointerId);
}

function onMove(event) {
  const before = fingers.get(event.pointerId), now = {x: event.offsetX, y: event.offsetY};
  if (!before) {
    showTip(nearest(now.x, now.y, NEAR));
    return;
  }
  hideTip();
  const other = [...fingers].find(([pointer]) => pointer !== event.pointerId)?.[1];
  fingers.set(event.pointerId, now);
  travelled += Math.hypot(now.x - before.x, now.y - before.y);
  if (other) {
    const away = ({x, y}) => Math.hypot(x - other.x, y - other.y) || 1;
    zoom(away(now) / away(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
  }
  pan((now.x - before.x) / fingers.size, (now.y - before.y) / fingers.size);
}

function onUp(event) {
  if (!fingers.delete(event.pointerId) || event.type === "pointercancel" || fingers.size || travelled > 6) return;
  const found = nearest(event.offsetX, event.offsetY, event.pointerType === "mouse" ? NEAR : 2 * NEAR);
  if (found >= 0) open(shown[found], {from: drawing});
}

function onWheel(event) {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.offsetX, event.offsetY);
}

const WAYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

function onMapKey(event) {
  const {key} = event;
  if (key in WAYS) goTo(towards(...WAYS[key]));
  else if (key === "+" || key === "=") zoom(1.5);
  else if (key === "-") zoom(1 / 1.5);
  else if (key === "0") byId("zoom-off").click();
  else if ((key === "Enter" || key === " ") && atPoint >= 0) open(shown[atPoint], {from: drawing, enter: true});
  else return;
  event.preventDefault();
}

// The point that lies nearest in a direction from the one in focus, at first from the middle.
function towards(dx, dy) {
  const [x, y] = atPoint < 0 ? [drawing.clientWidth / 2, drawing.clientHeight / 2] : onScreen(atPoint);
  if (atPoint < 0) return nearest(x, y, Infinity);
  let best = atPoint, least = Infinity;
  for (let i = 0; i < shown.length; i++) {
    const [px, py] = onScreen(i);
    const along = (px - x) * dx + (py - y) * dy, aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
    if (i !== atPoint && along > 0 && aside <= along && along + aside < least && wanted(classOf(shown[i]))) {
      [best, least] = [i, along + aside];
    }
  }
  return best;
}

function goTo(i) {
  if (i < 0) return;
  atPoint = i;
  const [x, y] = onScreen(i);
  if (x < EDGE || y < EDGE || x > drawing.clientWidth - EDGE || y > drawing.clientHeight - EDGE) {
    [camera.x, camera.y] = [spot[2 * i], spot[2 * i + 1]];
    keepInside();
  }
  drawMap();
  showTip(i);
  byId("said").textContent = `${name(shown[i])}: ${WORDS[verdict(shown[i])]}`;
}

function showTip(i) {
  drawing.classList.toggle("over", i >= 0);
  tip.hidden = i < 0;
  if (i < 0) return;
  const [x, y] = onScreen(i);
  tip.replaceChildren(paint(make("span"), shown[i]), named(classOf(shown[i]).name));
  tip.style.left = `${Math.max(0, Math.min(x + 12, drawing.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, y + 12 + tip.offsetHeight > drawing.clientHeight ? y - 12 - tip.offsetHeight : y + 12)}px`;
}

function hideTip() {
  tip.hidden = true;
  drawing.classList.remove("over");
}
