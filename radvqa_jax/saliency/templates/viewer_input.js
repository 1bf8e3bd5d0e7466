
// ---- what the reader does

// Chooses one, a range from the anchor (shift), or one more or less (ctrl): `kind` is whose words, or "patch".
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

function chooseWhole(query) {
  chooseAll(query);
  changeQuery();
}

const span = (a, b) => Array.from({ length: Math.abs(a - b) + 1 }, (_, i) => Math.min(a, b) + i);
const box = (a, b) => rectangle(a, b, current.grid);
const canChoose = (query) => current.maps.index.some((item) => item.query === query);

function clickWord(query, w, event) {
  if (!canChoose(query)) return;
  choose(query, w, event, span);
  $(`${LISTS.find((list) => list[1] === query)[0]}-${w}`).focus();
}

for (const [id, query] of LISTS) {
  $(id).addEventListener("keydown", (event) => {
    const last = wordsOf(query).length - 1, at = cursor[query];
    const to = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: last }[event.key];
    if (to !== undefined) {
      cursor[query] = Math.min(last, Math.max(0, to));
      if (event.shiftKey && query === state.query) choose(query, cursor[query], event, span);
      else draw();
    } else if ((event.key === " " || event.key === "Enter") && canChoose(query)) choose(query, at, event, span);
    else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey) && canChoose(query)) chooseWhole(query);
    else return;
    event.preventDefault();
    $(`${id}-${cursor[query]}`).focus();
  });
}

function patchAt(event) {
  const { left, top, width, height } = event.currentTarget.getBoundingClientRect(), { grid } = current;
  const [x, y] = [(event.clientX - left) / width, (event.clientY - top) / height].map((v) => Math.min(grid - 1, Math.max(0, Math.floor(v * grid))));
  return y * grid + x;
}

function pressPatch(event) {
  if (event.button !== 0) return;
  dragging = !event.shiftKey && !event.ctrlKey && !event.metaKey;
  choose("patch", patchAt(event), event, box);
}

function movePointer(event) {
  const at = patchAt(event);
  if (at === cursor.patch) return;
  if (dragging && event.buttons === 1) return choose("patch", at, { shiftKey: true }, box);
  dragging = false;
  cursor.patch = at;
  drawMarks();
  readOut();
}

function keyPatch(event) {
  const { grid } = current, [row, column] = [Math.floor(cursor.patch / grid), cursor.patch % grid];
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (step) {
    const clip = (value) => Math.min(grid - 1, Math.max(0, value));
    cursor.patch = clip(row + step[0]) * grid + clip(column + step[1]);
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

$("clear").addEventListener("click", clearPatches);
$("all-words").addEventListener("click", () => chooseWhole("answer"));
$("all-prompt").addEventListener("click", () => chooseWhole("question"));
$("method").addEventListener("change", (event) => {
  state.method = JSON.parse(event.target.value);
  showChoices();
  settle("method");
  draw();
});
for (const key of ["first", "second"]) {
  $(key).addEventListener("change", (event) => {
    state[key] = event.target.value;
    settle(key);
    draw();
  });
}
for (const key of ["layer", "head", "residual"]) {
  $(key).addEventListener("change", (event) => {
    state[key] = JSON.parse(event.target.value);
    settle(key);
    draw();
  });
}
$("vision").addEventListener("change", (event) => { state.vision = event.target.checked; settle("vision"); draw(); });
$("opacity").addEventListener("input", () => { $("opacity-value").textContent = `${$("opacity").value} %`; draw(); });
for (const id of ["limits", "colours", "fade", "show", "outline"]) $(id).addEventListener("change", draw);
$("controls").addEventListener("submit", (event) => event.preventDefault());

function goTo(index) {
  $("case").value = String(index);
  $("previous").disabled = index === 0;
  $("next").disabled = index === blocks.length - 1;
  openCase(index).catch((error) => { $("readout").textContent = `This case cannot be shown: ${error.message}`; throw error; });
}

$("case").addEventListener("change", () => goTo(Number($("case").value)));
$("previous").addEventListener("click", () => goTo(Number($("case").value) - 1));
$("next").addEventListener("click", () => goTo(Number($("case").value) + 1));
$("cases").hidden = blocks.length < 2;
$("opacity-value").textContent = `${$("opacity").value} %`;
goTo(0);
