
// ---- what the reader does

/**
 * Chooses one, a range from the anchor (shift), or one more or less (ctrl): `kind` is whose words, or "patch".
 * @param {string} kind @param {number} at @param {Held} event @param {(a: number, b: number) => number[]} range
 */
function choose(kind, at, event, range) {
  const isPatch = kind === "patch", set = isPatch ? state.patches : state.words;
  cursor[kind] = at;
  if (!isPatch && kind !== state.query) {
    // Words of the answer and of the question are not chosen together: their maps are of different states.
    state.query = kind;
    set.clear();
    set.add(at);
    anchor[kind] = at;
    return changeQuery();
  }
  if (event.shiftKey) {
    set.clear();
    range(anchor[kind], at).forEach((item) => set.add(item));
  } else if (event.ctrlKey || event.metaKey) {
    if (!set.delete(at)) set.add(at);
    anchor[kind] = at;
  } else {
    const alone = set.size === 1 && set.has(at);
    set.clear();
    if (!alone || !isPatch) set.add(at);
    anchor[kind] = at;
  }
  if (!isPatch && !set.size) set.add(at); // a map is always of some words
  draw();
}

// Not every method has maps of the question's words.
function changeQuery() {
  if (!methods().includes(state.method)) state.method = methods()[0];
  settle("method");
  draw();
}

/** @param {string} query */
function chooseWhole(query) {
  chooseAll(query);
  changeQuery();
}

const span = (/** @type {number} */ a, /** @type {number} */ b) => Array.from({ length: Math.abs(a - b) + 1 }, (_, i) => Math.min(a, b) + i);
const box = (/** @type {number} */ a, /** @type {number} */ b) => rectangle(a, b, current.grid);
const canChoose = (/** @type {string} */ query) => current.maps.index.some((item) => item.query === query);

/** @param {string} query @param {number} w @param {Held} event */
function clickWord(query, w, event) {
  if (!canChoose(query)) return;
  choose(query, w, event, span);
  $(`${LISTS.find((list) => list[1] === query)?.[0]}-${w}`).focus();
}

/** @param {string} id @param {string} query @param {KeyboardEvent} event */
function keyWord(id, query, event) {
  const seen = [...wordsOf(query).keys()].filter((w) => !$(`${id}-${w}`).hidden), at = cursor[query], place = Math.max(0, seen.indexOf(at));
  const to = /** @type {Record<string, number>} */ ({ ArrowLeft: place - 1, ArrowUp: place - 1, ArrowRight: place + 1, ArrowDown: place + 1, Home: 0, End: seen.length - 1 })[event.key];
  if (to !== undefined) {
    cursor[query] = seen[clamp(to, 0, seen.length - 1)];
    if (event.shiftKey && query === state.query) choose(query, cursor[query], event, span);
    else draw();
  } else if ((event.key === " " || event.key === "Enter") && canChoose(query)) choose(query, at, event, span);
  else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey) && canChoose(query)) chooseWhole(query);
  else return;
  event.preventDefault();
  $(`${id}-${cursor[query]}`).focus();
}

/** @param {HTMLElement} stage @param {PointerEvent} event */
function patchAt(stage, event) {
  const sheet = /** @type {HTMLElement} */ (stage.firstElementChild);
  const { left, top, width, height } = sheet.getBoundingClientRect(), { grid } = current;
  const [x, y] = [(event.clientX - left) / width, (event.clientY - top) / height].map((v) => clamp(Math.floor(v * grid), 0, grid - 1));
  return y * grid + x;
}

// What dragging does now: the tool of the left button, the window with the right one, moving with the wheel.
let dragging = "";

/** @param {HTMLElement} stage */
function listen(stage) {
  stage.addEventListener("pointerdown", (event) => {
    dragging = event.button === 2 ? "window" : event.button === 1 ? "move" : state.tool;
    if (dragging === "move" || dragging === "window") {
      stage.setPointerCapture(event.pointerId);
      event.preventDefault();
    } else if (dragging === "patches") {
      if (event.shiftKey || event.ctrlKey || event.metaKey) dragging = "";
      choose("patch", patchAt(stage, event), event, box);
    } else showLens(stage, event);
  });
  stage.addEventListener("pointermove", (event) => movePointer(stage, event));
  stage.addEventListener("pointerup", () => { dragging = ""; });
  stage.addEventListener("pointerleave", hideLens);
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("wheel", (event) => {
    if (isNarrow() && !event.ctrlKey) return; // there the page scrolls
    event.preventDefault();
    const area = stage.getBoundingClientRect();
    zoomBy(event.deltaY < 0 ? 1.25 : 0.8, (event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
  }, { passive: false });
  stage.addEventListener("keydown", keyPatch);
  stage.addEventListener("focus", readOut);
}

/** @param {HTMLElement} stage @param {PointerEvent} event */
function movePointer(stage, event) {
  const area = stage.getBoundingClientRect();
  if (event.buttons && dragging === "move") return moveTo(state.x + event.movementX / area.width, state.y + event.movementY / area.height);
  if (event.buttons && dragging === "window") {
    setWindow(state.centre + event.movementY / 2, state.width + event.movementX);
    return draw();
  }
  if (state.tool === "magnify") showLens(stage, event);
  const at = patchAt(stage, event);
  if (at === cursor.patch) return;
  if (dragging === "patches" && event.buttons === 1) return choose("patch", at, { shiftKey: true }, box);
  cursor.patch = at;
  drawMarks();
  readOut();
}

/** @param {KeyboardEvent} event */
function keyPatch(event) {
  const { grid } = current, [row, column] = [Math.floor(cursor.patch / grid), cursor.patch % grid];
  const step = /** @type {Record<string, number[]>} */ ({ ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] })[event.key];
  if (step) {
    cursor.patch = clamp(row + step[0], 0, grid - 1) * grid + clamp(column + step[1], 0, grid - 1);
    if (event.shiftKey) choose("patch", cursor.patch, event, box);
    else { drawMarks(); readOut(); }
  } else if (event.key === " " || event.key === "Enter") choose("patch", cursor.patch, { ctrlKey: !event.shiftKey, shiftKey: event.shiftKey }, box);
  else if (event.key === "Escape") clearPatches();
  else return;
  event.preventDefault();
}

function clearPatches() {
  state.patches.clear();
  draw();
}
