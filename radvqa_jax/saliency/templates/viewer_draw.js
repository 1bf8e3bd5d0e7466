
// ---- drawing

function draw() {
  const shown = panes(), maps = shown.map((pane) => pane.map(chosenWords())), limit = limitOf(maps), signed = isSigned();
  const table = tables[menu("colours").value], opacity = field("show").checked ? Number(field("opacity").value) / 100 : 0;
  const log = menu("limits").value === "log", fade = field("fade").checked, { grid } = current;
  shown.forEach((pane, i) => {
    const panel = $("panels").children[i], map = maps[i], stage = /** @type {HTMLElement} */ (panel.querySelector(".stage"));
    const canvas = /** @type {HTMLCanvasElement} */ (panel.querySelector("canvas.map")), context = contextOf(canvas);
    const target = context.createImageData(canvas.width, canvas.height);
    blend(target, current.windowed, map ?? new Float64Array(grid ** 2), { grid, limit, signed, log, opacity: map ? opacity : 0, fade, table });
    context.putImageData(target, 0, 0);
    const share = map ? `${amount(sumOver(map, null))} on the image` : "no such map of this model";
    /** @type {HTMLElement} */ (panel.querySelector("figcaption")).textContent = `${pane.label}: ${share}`;
    stage.setAttribute("aria-label", `Image with ${describe(state)}, ${pane.label}. ${share}.`);
  });
  drawMarks();
  drawScale(limit, table, maps.filter((map) => map !== null));
  drawAtlas(table);
  drawWords(lastPane());
  showMeasures(shown, maps);
  readOut();
}

/** A share in percent, what has no unit as a number; with a sign where there may be one. @param {number} value */
function amount(value) {
  return (isSigned() && value > 0 ? "+" : "") + (isShare() ? percent(value) : number(value));
}

/** @param {Iterable<number>} patches */
function patchPath(patches) {
  const { width, height } = current.image, w = width / current.grid, h = height / current.grid;
  return [...patches].map((p) => `M${(p % current.grid) * w} ${Math.floor(p / current.grid) * h}h${w}v${h}h${-w}z`).join("");
}

function drawMarks() {
  const outline = field("outline").checked ? current.outline : "";
  const [sx, sy] = [current.image.width / current.image.original[0], current.image.height / current.image.original[1]];
  for (const over of document.querySelectorAll(".stage svg")) {
    const [haloMarked, marked, halo, chosen, mark] = over.children;
    for (const path of [haloMarked, marked]) {
      path.setAttribute("d", outline);
      path.setAttribute("transform", `scale(${sx} ${sy})`);
    }
    halo.setAttribute("d", patchPath(state.patches));
    chosen.setAttribute("d", patchPath(state.patches));
    mark.setAttribute("d", patchPath([cursor.patch]));
  }
}

// What the ends of a scale with a sign mean.
function ends() {
  if (state.view === "difference") return [`more in ${labelOf(state.second)}`, `more in ${labelOf(state.first)}`];
  return state.method in AGAINST ? [`for “${current.other}”`, "for this answer"] : ["less", "more"];
}

/** What the scale leaves out, in words. @param {number} limit @param {Float64Array[]} maps */
function scaleNote(limit, maps) {
  const top = Math.max(0, ...maps.map(largest)), patches = current.grid ** 2;
  const whose = state.view === "difference" ? "and head of this difference" : "head and model of this map";
  const beyond = top > limit ? ` The largest value is ${number(top)}.` : "";
  return {
    robust: `Robust: the ${hotPatches(patches)} hottest of ${patches} patches of each picture do not decide the end of the scale; they take its colour.${beyond}`,
    relative: "Up to the largest value of what is shown. Colours of another choice mean other values.",
    log: `Logarithmic, down to ${number(limit / LOG_RANGE)}; half of the scale is ${number((limit * (Math.sqrt(LOG_RANGE + 1) - 1)) / LOG_RANGE)}.`,
    absolute: `Absolute: one scale for every word of the ${state.query}, layer, ${whose} in this case.${beyond}`,
  }[menu("limits").value] ?? "";
}

/** @param {number} limit @param {Uint8Array} table @param {Float64Array[]} maps */
function drawScale(limit, table, maps) {
  const context = contextOf(canvasOf("bar")), ramp = context.createImageData(256, 1), signed = isSigned();
  for (let i = 0; i < 256; i++) ramp.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
  context.putImageData(ramp, 0, 0);
  const unit = shared.methods[state.method]?.unit ?? "value", pattern = state.view === "difference" && !isShare();
  const [less, more] = signed ? ends().map((end) => `, ${end}`) : ["", ""], beyond = Math.max(0, ...maps.map(largest)) > limit ? "≥ " : "";
  $("low").textContent = signed ? `${number(-limit)}${less}` : "0";
  $("high").textContent = `${beyond}${number(limit)}${more}`;
  $("unit").textContent = `${pattern ? `share of the map's ${unit}` : unit} a patch`;
  $("scale-note").textContent = scaleNote(limit, maps);
  $("high").dataset.limit = String(limit);
}

/** @param {Uint8Array} table */
function drawAtlas(table) {
  if ($("atlas-field").hidden) return;
  const sorted = (/** @type {"layer" | "head"} */ key) => /** @type {number[]} */ (offered(key).filter((v) => v !== null)).sort((a, b) => a - b);
  const pane = lastPane(), words = chosenWords(), layers = sorted("layer"), heads = sorted("head"), { grid } = current, cell = grid + 1;
  const cells = layers.flatMap((layer, i) => heads.flatMap((head, j) => {
    const values = pane.map(words, { ...state, layer, head, vision: false });
    return values ? [{ i, j, values }] : [];
  }));
  const limit = robustLimit(cells.map((item) => item.values)), signed = isSigned(), canvas = canvasOf("atlas");
  canvas.width = heads.length * cell - 1;
  canvas.height = layers.length * cell - 1;
  const context = contextOf(canvas), image = context.createImageData(canvas.width, canvas.height);
  for (const item of cells) {
    item.values.forEach((value, p) => {
      const at = 4 * ((item.i * cell + Math.floor(p / grid)) * canvas.width + item.j * cell + (p % grid)), from = 3 * colourIndex(value, limit, signed);
      image.data.set([table[from], table[from + 1], table[from + 2], 255], at);
    });
  }
  context.putImageData(image, 0, 0);
  $("atlas-heads").replaceChildren(...heads.map((head) => text("span", String(head))));
  $("atlas-layers").replaceChildren(...layers.map((layer) => text("span", String(layer))));
  const range = `${pane.label}, from ${signed ? number(-limit) : "0"} to ${number(limit)} and above`;
  $("atlas-scale").textContent = range;
  canvas.setAttribute("aria-label", `${layers.length} layers by ${heads.length} heads, ${range}`);
  canvas.onclick = (event) => {
    const box = canvas.getBoundingClientRect();
    state.head = heads[Math.min(heads.length - 1, Math.floor(((event.clientX - box.left) / box.width) * heads.length))];
    state.layer = layers[Math.min(layers.length - 1, Math.floor(((event.clientY - box.top) / box.height) * layers.length))];
    settle("head");
    draw();
  };
}

/**
 * What each word read in the image, or in the chosen patches; under the question, while words of the answer are chosen,
 * what these read of it.
 * @param {Pane} pane
 */
function drawWords(pane) {
  const patches = state.patches.size ? state.patches : null, read = state.query === "answer" ? pane.read(chosenWords()) : null;
  for (const [id, query] of LISTS) {
    const options = /** @type {HTMLElement[]} */ ([...$(id).children]), given = query === "question" ? read : null;
    const maps = given ? [] : options.map((_, w) => pane.map([w], { ...state, query }));
    const shares = given ? [...given] : maps.map((map) => map && sumOver(map, patches));
    const top = Math.max(...shares.map((share) => Math.abs(share ?? 0))) || 1;
    options.forEach((option, w) => {
      const share = shares[w], meter = /** @type {HTMLElement} */ (option.querySelector(".meter"));
      option.setAttribute("aria-selected", String(query === state.query && state.words.has(w)));
      option.hidden = wordsOf(query)[w].end && !showsSpecial();
      option.tabIndex = w === cursor[query] ? 0 : -1;
      /** @type {HTMLElement} */ (option.querySelector(".share")).textContent = share === null ? "" : amount(share);
      option.dataset.share = share === null ? "" : String(share);
      meter.hidden = share === null;
      /** @type {HTMLElement} */ (meter.firstElementChild).style.width = `${(100 * Math.abs(share ?? 0)) / top}%`;
    });
    const where = patches ? `${patches.size} chosen ${patches.size === 1 ? "patch" : "patches"}` : "the whole image";
    const what = given ? "what the chosen words of the answer read of it" : `${isShare() ? "its share" : "its sum"} on ${where}`;
    $(`${id}-measure`).textContent = shares.some((share) => share !== null) ? `Below each word: ${what} (${pane.label}).` : "";
  }
  showSources(pane);
  const asked = current.maps.index.some((item) => item.query === "question");
  $("prompt-field").hidden = !showsSpecial() || !current.prompt.length || !(asked || read);
  $("all-prompt").hidden = !asked;
  /** @type {HTMLButtonElement} */ ($("clear")).disabled = !patches;
}

// Whether the words of the prompt, and tokens that only begin or end a text, are shown; an answer may have no other.
const showsSpecial = () => field("show-prompt").checked || current.words.every((word) => word.end);

/** @param {Pane[]} shown @param {(Float64Array | null)[]} maps */
function showMeasures(shown, maps) {
  const last = maps[maps.length - 1];
  const words = chosenWords().map((w) => (state.query === "answer" && current.words[w].end ? "the end" : `“${wordsOf(state.query)[w].text.trim()}”`)).join(" ");
  const even = isSigned() || !last ? "" : `; an even spread would give each patch ${number(sumOver(last, null) / current.grid ** 2)}`;
  const less = state.view === "difference" ? `; ${shown[0].label}${isShare() ? "" : ", each map brought to sum one first"}` : "";
  $("statement").textContent = `${describe(state)}${less}; chosen words of the ${state.query}: ${words}${even}.`;
  if (!current.quality.length) return;
  $("no-quality").textContent = isSigned() ? "Values with a sign are not measured against the marked region." : "";
  $("live-quality").hidden = isSigned();
  const rows = shown.map((pane, i) => {
    const map = maps[i], found = map && current.coverage && against(current.coverage, map);
    return tableRow(pane.label, found ? [percent(found.mass), percent(found.area), `${percent(found.hottest)} inside`] : ["no map", "", ""]);
  });
  fillTable($("live-quality"), ["shown now", "of the map inside", "of the image covered", "hottest patch"], rows, "");
}

function readOut() {
  const p = cursor.patch, grid = current.grid, parts = [`Patch row ${Math.floor(p / grid) + 1}, column ${(p % grid) + 1} of ${grid} x ${grid}`];
  for (const pane of panes()) {
    const map = pane.map(chosenWords());
    if (map) parts.push(`${pane.label} ${number(map[p])}${state.patches.size ? `, chosen patches together ${amount(sumOver(map, state.patches))}` : ""}`);
  }
  $("readout").textContent = `${parts.join("; ")}.`;
}
