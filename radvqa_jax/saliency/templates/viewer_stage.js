
// ---- the pictures: their size, zoom and place, the grey levels of the image, the magnifier

const MOST_ZOOM = 16, LENS_ZOOM = 3, LENS_SIDE = 192; // the lens has as many pixels a side

/** @param {number} value @param {number} low @param {number} high */
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const stages = () => /** @type {HTMLElement[]} */ ([...document.querySelectorAll(".stage")]);

function buildPanels() {
  const { width, height } = current.image, shown = panes();
  $("panels").replaceChildren(...shown.map((pane) => {
    const panel = text("figure", "", { "data-model": pane.name });
    const stage = text("div", "", { class: "stage", tabindex: "0", role: "application", "aria-describedby": "patch-help" });
    const sheet = text("div", "", { class: "sheet" }), canvas = /** @type {HTMLCanvasElement} */ (text("canvas", "", { class: "map" }));
    canvas.width = width;
    canvas.height = height;
    // As large as the column and the window allow, at the image's own aspect: a small image has more pixels here.
    const [across, down] = current.image.original;
    stage.style.aspectRatio = `${across} / ${down}`;
    stage.style.width = `min(100%, calc(var(--room) * ${across / down}))`;
    const over = drawing("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const name of ["halo marked", "outline marked", "halo", "chosen", "cursor"]) over.append(drawing("path", { class: name }));
    sheet.append(canvas, over);
    stage.append(sheet);
    listen(stage);
    panel.append(text("figcaption", ""), stage);
    return panel;
  }));
  placeSheets();
}

function placeSheets() {
  for (const stage of stages()) {
    const sheet = /** @type {HTMLElement} */ (stage.firstElementChild);
    sheet.style.transform = `translate(${100 * state.x}%, ${100 * state.y}%) scale(${state.zoom})`;
    stage.className = `stage ${state.tool}`;
  }
  const window = state.width === 255 && state.centre === 127.5 ? "" : `, window ${Math.round(state.width)}, level ${Math.round(state.centre)} of 0 to 255`;
  $("looking").textContent = state.zoom === 1 && !window ? "" : `zoom ${Math.round(100 * state.zoom)} %${window}`;
}

/**
 * Zooms by a factor about a place of the stage, in shares of its sides; the image stays within the stage.
 * @param {number} factor @param {number} atX @param {number} atY
 */
function zoomBy(factor, atX = 0.5, atY = 0.5) {
  const zoom = clamp(state.zoom * factor, 1, MOST_ZOOM), by = zoom / state.zoom;
  moveTo(atX - (atX - state.x) * by, atY - (atY - state.y) * by, zoom);
}

/** @param {number} x @param {number} y @param {number} zoom */
function moveTo(x, y, zoom = state.zoom) {
  state.zoom = zoom;
  state.x = clamp(x, 1 - zoom, 0);
  state.y = clamp(y, 1 - zoom, 0);
  placeSheets();
}

/** @param {number} centre @param {number} width */
function setWindow(centre, width) {
  state.centre = clamp(centre, 0, 255);
  state.width = clamp(width, 1, 510);
  const plain = state.centre === 127.5 && state.width === 255;
  current.windowed = plain ? current.pixels : windowPixels(current.pixels, state.centre, state.width);
  placeSheets();
}

function resetLook() {
  moveTo(0, 0, 1);
  setWindow(127.5, 255);
}

/** @param {string} tool */
function setTool(tool) {
  state.tool = tool;
  for (const button of document.querySelectorAll(".tool")) button.setAttribute("aria-pressed", String(button.getAttribute("data-tool") === tool));
  hideLens();
  placeSheets();
}

function hideLens() {
  for (const lens of document.querySelectorAll(".lens")) lens.remove();
}

/** Shows the surroundings of the pointer larger, as they are drawn. @param {HTMLElement} stage @param {PointerEvent} event */
function showLens(stage, event) {
  const box = stage.getBoundingClientRect(), canvas = /** @type {HTMLCanvasElement} */ (stage.querySelector("canvas.map"));
  let lens = /** @type {HTMLCanvasElement | null} */ (stage.querySelector(".lens"));
  if (!lens) {
    hideLens();
    lens = /** @type {HTMLCanvasElement} */ (text("canvas", "", { class: "lens", "aria-hidden": "true" }));
    lens.width = lens.height = LENS_SIDE;
    stage.append(lens);
  }
  const sheet = canvas.getBoundingClientRect(), perPixel = sheet.width / canvas.width, perRow = sheet.height / canvas.height;
  const [x, y] = [(event.clientX - sheet.left) / perPixel, (event.clientY - sheet.top) / perRow];
  const [across, down] = [LENS_SIDE / (LENS_ZOOM * perPixel), LENS_SIDE / (LENS_ZOOM * perRow)], context = contextOf(lens);
  context.imageSmoothingEnabled = false;
  context.fillRect(0, 0, LENS_SIDE, LENS_SIDE);
  context.drawImage(canvas, x - across / 2, y - down / 2, across, down, 0, 0, LENS_SIDE, LENS_SIDE);
  lens.style.left = `${event.clientX - box.left}px`;
  lens.style.top = `${event.clientY - box.top}px`;
}
