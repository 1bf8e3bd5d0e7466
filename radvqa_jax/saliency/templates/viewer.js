
// The page. Every text of a case goes through `text` or an attribute, never through markup.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const shared = JSON.parse($("shared").textContent);
const tables = Object.fromEntries(Object.entries(shared.colours).map(([name, data]) => [name, decodeBase64(data)]));
const blocks = [...document.querySelectorAll("script.case")];
const state = { view: "", method: "", layer: null, head: null, residual: null, vision: false, words: new Set(), patches: new Set() };
let current = null; // the case that is shown
let anchor = { word: 0, patch: 0 }, cursor = { word: 0, patch: 0 }, dragging = false;

function text(tag, content, attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = content;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function drawing(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function loadPixels(image) {
  return new Promise((resolve, reject) => {
    const element = new Image();
    element.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = image.width;
      canvas.height = image.height;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(element, 0, 0);
      resolve(context.getImageData(0, 0, image.width, image.height));
    };
    element.onerror = () => reject(new Error("The image of this case cannot be decoded."));
    element.src = image.src;
  });
}

async function openCase(index) {
  const data = JSON.parse(blocks[index].textContent);
  const [buffer, pixels] = await Promise.all([inflate(decodeBase64(data.maps.data)), loadPixels(data.image)]);
  if (Number($("case").value) !== index) return; // another case was chosen meanwhile
  current = { ...data, index, buffer, pixels, cache: new Map() };
  state.view = current.models.length > 1 ? "both" : current.models[0].name;
  if (!methods().includes(state.method)) state.method = methods()[0];
  wholeAnswer();
  state.patches.clear();
  cursor = { word: 0, patch: (current.grid + 1) * Math.floor(current.grid / 2) };
  anchor = { ...cursor };
  showTexts();
  showChoices();
  buildPanels();
  draw();
}

const methods = () => [...new Set(current.maps.index.map((item) => item.method))];
const offered = (key) => [...new Set(current.maps.index.filter((item) => item.method === state.method).map((item) => item[key]))];
const shownModels = () => current.models.filter((model) => state.view === "both" || model.name === state.view);
const chosenWords = () => [...state.words].sort((a, b) => a - b);

function findMap(model, wanted = state) {
  const keys = ["method", "layer", "head", "residual", "vision"];
  return current.maps.index.find((item) => item.model === model && keys.every((key) => item[key] === wanted[key]));
}

function valuesOf(item) {
  if (!current.cache.has(item)) current.cache.set(item, mapValues(current.buffer, item, current.words.length, current.grid ** 2));
  return current.cache.get(item);
}

function mapOf(model, wanted = state) {
  const item = findMap(model, wanted);
  return item === undefined ? null : meanOfWords(valuesOf(item), current.words, chosenWords());
}

function wholeAnswer() {
  const inner = current.words.map((_, w) => w).filter((w) => !current.words[w].end);
  state.words = new Set(inner.length ? inner : current.words.keys());
}

// One scale for what is compared: of the maps on the screen, or of every word, layer, head and model of the method.
function limitOf(maps) {
  if ($("limits").value === "relative") return Math.max(0, ...maps.filter(Boolean).map((values) => values.reduce((a, b) => Math.max(a, b), 0)));
  return Math.max(0, ...current.maps.index.filter((item) => item.method === state.method).flatMap((item) => item.scale));
}

// ---- what does not change while a case is open

function outcome(model) {
  return model.outcome ? text("span", `${{ correct: "✓", incorrect: "✗", unparsed: "?" }[model.outcome]} ${model.outcome}`, { class: `outcome ${model.outcome}`, title: `by the rule: ${model.rule}` }) : "";
}

function showTexts() {
  const rows = [["question", text("span", current.question, { class: "question" })]];
  if (current.reference) rows.push(["reference", current.reference]);
  for (const model of current.models) rows.push([model.label, text("span", model.prediction), outcome(model)]);
  $("qa").replaceChildren(...rows.flatMap(([name, ...values]) => {
    const shown = document.createElement("dd");
    shown.append(...values);
    return [text("dt", name), shown];
  }));
  const facts = [["question id", current.id], ["image", `${current.image.original.join(" x ")} pixels`], ...current.facts];
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [text("dt", name), text("dd", value)]));
  $("notes").replaceChildren(...current.notes.map((note) => text("li", note)));
  $("words").replaceChildren(...current.words.map((word, w) => {
    const option = text("li", word.end ? "(end)" : word.text, { role: "option", id: `word-${w}`, class: word.end ? "end" : "" });
    const meter = text("span", "", { class: "meter", "aria-hidden": "true" });
    meter.append(text("i", ""));
    option.append(text("span", "", { class: "share" }), meter);
    option.addEventListener("click", (event) => clickWord(w, event));
    return option;
  }));
  showQuality();
}

function showQuality() {
  $("quality-field").hidden = !current.quality.length;
  if (!current.quality.length) return;
  const head = text("tr", "");
  head.append(...["whole answer", "inside", "by chance", "hottest patch"].map((name) => text("th", name, { scope: "col" })));
  const rows = current.quality.map((row) => {
    const label = current.models.find((model) => model.name === row.model).label;
    const line = text("tr", "");
    line.append(text("th", `${describe(row)}, ${label}`, { scope: "row" }), text("td", percent(row.mass)), text("td", percent(row.area)), text("td", row.hit > 0 ? (row.hit < 1 ? "tie" : "inside") : "outside"));
    return line;
  });
  const body = document.createElement("tbody"), top = document.createElement("thead");
  top.append(head);
  body.append(...rows);
  $("quality").replaceChildren(text("caption", "Share of the map's mass inside the lesion's outline.", { class: "soft" }), top, body);
}

function describe(item) {
  const parts = [shared.methods[item.method]?.label ?? item.method];
  if (item.layer !== undefined && item.layer !== null) parts.push(`layer ${item.layer}`);
  if (item.head !== undefined && item.head !== null) parts.push(`head ${item.head}`);
  if (item.residual !== null && item.residual !== undefined) parts.push(`residual ${item.residual}`);
  if (item.vision) parts.push("through the vision tower");
  return parts.join(", ");
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, label]) => text("option", label, { value: JSON.stringify(value) })));
  select.value = JSON.stringify(chosen);
}

// Offers what the method has, and moves the state to the nearest map that there is.
function showChoices() {
  fill($("method"), methods().map((name) => [name, shared.methods[name]?.label ?? name]), state.method);
  $("about").textContent = shared.methods[state.method]?.about ?? "";
  const names = { layer: "all layers (mean)", head: "all heads (mean)", residual: "none" };
  for (const key of ["layer", "head", "residual"]) {
    const found = offered(key).sort((a, b) => (a ?? -1) - (b ?? -1));
    if (!found.includes(state[key])) state[key] = found.includes(0.5) ? 0.5 : found[0];
    fill($(key), found.map((value) => [value, value === null ? names[key] : String(value)]), state[key]);
    $(`${key}-field`).hidden = found.length < 2 && found[0] === null;
  }
  const visions = offered("vision");
  if (!visions.includes(state.vision)) state.vision = visions[0];
  $("vision").checked = state.vision;
  $("vision").disabled = visions.length < 2;
  $("vision-field").hidden = visions.length < 2 && !visions[0];
  $("outline-field").hidden = !current.outline;
  $("atlas-field").hidden = offered("head").length < 2;
  const views = [...current.models.map((model) => [model.name, model.label]), ...(current.models.length > 1 ? [["both", "side by side"]] : [])];
  $("view-field").hidden = views.length < 2;
  $("views").replaceChildren(...views.map(([name, label]) => {
    const item = document.createElement("label"), radio = text("input", "", { type: "radio", name: "view", value: name });
    radio.checked = name === state.view;
    radio.addEventListener("change", () => { state.view = name; buildPanels(); draw(); });
    item.append(radio, text("span", label));
    return item;
  }));
}

// A combination that no map has (a head of "all layers") moves the other choices, as few of them as can be.
function settle(changed) {
  if (shownModels().some((model) => findMap(model.name))) return;
  const keys = ["layer", "head", "residual", "vision"], alike = (item) => keys.filter((key) => item[key] === state[key]).length;
  const possible = current.maps.index.filter((item) => item.method === state.method && (changed === "method" || item[changed] === state[changed]));
  const nearest = possible.sort((a, b) => alike(b) - alike(a))[0];
  for (const key of keys) state[key] = nearest[key];
  showChoices();
}

function buildPanels() {
  const { width, height } = current.image;
  $("panels").replaceChildren(...shownModels().map((model) => {
    const panel = text("figure", "", { "data-model": model.name }), stage = text("div", "", { class: "stage", tabindex: "0", role: "application", "aria-describedby": "patch-help" });
    const canvas = text("canvas", "", { class: "map" });
    canvas.width = width;
    canvas.height = height;
    // As large as the column and the window allow, at the image's own aspect.
    stage.style.aspectRatio = `${width} / ${height}`;
    stage.style.width = `min(100%, calc(min(78vh, 44rem) * ${width / height}))`;
    const over = drawing("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const name of ["halo lesion", "outline lesion", "halo", "chosen", "cursor"]) over.append(drawing("path", { class: name }));
    stage.append(canvas, over);
    stage.addEventListener("pointerdown", pressPatch);
    stage.addEventListener("pointermove", movePointer);
    stage.addEventListener("keydown", keyPatch);
    stage.addEventListener("focus", readOut);
    panel.append(text("figcaption", ""), stage);
    return panel;
  }));
}

// ---- drawing

function draw() {
  const models = shownModels(), maps = models.map((model) => mapOf(model.name)), limit = limitOf(maps);
  const table = tables[$("colours").value], opacity = $("show").checked ? Number($("opacity").value) / 100 : 0;
  models.forEach((model, i) => {
    const panel = $("panels").children[i], canvas = panel.querySelector("canvas"), context = canvas.getContext("2d");
    const target = context.createImageData(canvas.width, canvas.height);
    blend(target, current.pixels, maps[i] ?? new Float64Array(current.grid ** 2), { grid: current.grid, limit, opacity: maps[i] ? opacity : 0, fade: $("fade").checked, table });
    context.putImageData(target, 0, 0);
    const share = maps[i] ? `${amount(sumOver(maps[i], null))} on the image` : "no such map of this model";
    panel.querySelector("figcaption").textContent = `${model.label}: ${share}`;
    panel.querySelector(".stage").setAttribute("aria-label", `Image with ${describe(state)}, ${model.label}. ${share}.`);
  });
  drawMarks();
  drawScale(limit, table);
  drawAtlas(table);
  drawWords();
  drawPrompt();
  showMeasures(models, maps);
  readOut();
}

// A share in percent; what has no unit as a number.
function amount(value) {
  return shared.methods[state.method]?.share ? percent(value) : number(value);
}

function patchPath(patches) {
  const { width, height } = current.image, w = width / current.grid, h = height / current.grid;
  return [...patches].map((p) => `M${(p % current.grid) * w} ${Math.floor(p / current.grid) * h}h${w}v${h}h${-w}z`).join("");
}

function drawMarks() {
  const outline = $("outline").checked ? current.outline : "";
  const [sx, sy] = [current.image.width / current.image.original[0], current.image.height / current.image.original[1]];
  for (const over of document.querySelectorAll(".stage svg")) {
    const [haloLesion, lesion, halo, chosen, mark] = over.children;
    for (const path of [haloLesion, lesion]) {
      path.setAttribute("d", outline);
      path.setAttribute("transform", `scale(${sx} ${sy})`);
    }
    halo.setAttribute("d", patchPath(state.patches));
    chosen.setAttribute("d", patchPath(state.patches));
    mark.setAttribute("d", patchPath([cursor.patch]));
  }
}

function drawScale(limit, table) {
  const context = $("bar").getContext("2d"), ramp = context.createImageData(256, 1);
  for (let i = 0; i < 256; i++) ramp.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
  context.putImageData(ramp, 0, 0);
  const unit = shared.methods[state.method]?.unit ?? "value";
  $("high").textContent = number(limit);
  $("unit").textContent = `${unit} a patch, ${$("limits").value} scale`;
  $("scale-note").textContent = {
    relative: "Relative: up to the largest value of what is shown. Colours of another choice mean other values.",
    absolute: "Absolute: one scale for every word, layer, head and model of this method in this case.",
  }[$("limits").value];
  $("high").dataset.limit = String(limit);
}

function drawAtlas(table) {
  if ($("atlas-field").hidden) return;
  const model = shownModels().at(-1).name, layers = offered("layer").filter((v) => v !== null).sort((a, b) => a - b);
  const heads = offered("head").filter((v) => v !== null).sort((a, b) => a - b), { grid } = current, cell = grid + 1;
  const cells = layers.flatMap((layer, i) => heads.map((head, j) => ({ i, j, layer, head, values: mapOf(model, { ...state, layer, head }) }))).filter((item) => item.values);
  const limit = Math.max(0, ...cells.map((item) => item.values.reduce((a, b) => Math.max(a, b), 0)));
  const canvas = $("atlas");
  canvas.width = heads.length * cell - 1;
  canvas.height = layers.length * cell - 1;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (const item of cells) {
    item.values.forEach((value, p) => {
      const at = 4 * ((item.i * cell + Math.floor(p / grid)) * canvas.width + item.j * cell + (p % grid)), from = 3 * colourIndex(value, limit);
      image.data.set([table[from], table[from + 1], table[from + 2], 255], at);
    });
  }
  context.putImageData(image, 0, 0);
  const label = current.models.find((item) => item.name === model).label;
  canvas.setAttribute("aria-label", `${layers.length} layers by ${heads.length} heads, ${label}, from 0 to ${number(limit)}`);
  canvas.onclick = (event) => {
    const box = canvas.getBoundingClientRect();
    state.head = heads[Math.min(heads.length - 1, Math.floor(((event.clientX - box.left) / box.width) * heads.length))];
    state.layer = layers[Math.min(layers.length - 1, Math.floor(((event.clientY - box.top) / box.height) * layers.length))];
    settle("head");
    showChoices();
    draw();
  };
}

function drawWords() {
  const item = findMap(shownModels().at(-1).name), patches = state.patches.size ? state.patches : null;
  const shares = current.words.map((_, w) => (item ? sumOver(valuesOf(item)[w], patches) : 0)), top = Math.max(...shares) || 1;
  [...$("words").children].forEach((option, w) => {
    option.setAttribute("aria-selected", String(state.words.has(w)));
    option.tabIndex = w === cursor.word ? 0 : -1;
    option.querySelector(".share").textContent = amount(shares[w]);
    option.dataset.share = String(shares[w]);
    option.querySelector(".meter i").style.width = `${(100 * shares[w]) / top}%`;
  });
  const where = patches ? `${patches.size} chosen ${patches.size === 1 ? "patch" : "patches"}` : "the whole image";
  $("words-measure").textContent = `Below each word: ${shared.methods[state.method]?.share ? "its share" : "its sum"} on ${where} (${shownModels().at(-1).label}).`;
  $("clear").disabled = !patches;
}

// What the chosen words read of each word of the prompt, where the map says it.
function drawPrompt() {
  const item = findMap(shownModels().at(-1).name);
  $("prompt-field").hidden = !item?.prompt;
  if (!item?.prompt) return;
  const read = meanOfWords(item.prompt, current.words, chosenWords()), top = Math.max(...read) || 1;
  $("prompt").replaceChildren(...current.prompt.map((word, u) => {
    const entry = text("li", word.trim() || "(line end)"), meter = text("span", "", { class: "meter", "aria-hidden": "true" }), bar = text("i", "");
    bar.style.width = `${(100 * read[u]) / top}%`;
    meter.append(bar);
    entry.append(text("span", percent(read[u]), { class: "share" }), meter);
    entry.dataset.share = String(read[u]);
    return entry;
  }));
}

function showMeasures(models, maps) {
  const words = chosenWords().map((w) => (current.words[w].end ? "the end" : `“${current.words[w].text}”`)).join(" ");
  $("statement").textContent = `${describe(state)}; chosen words: ${words}; an even spread would give each patch ${number(sumOver(maps.at(-1) ?? [], null) / current.grid ** 2)}.`;
  if (!current.quality.length) return;
  const lines = models.map((model, i) => {
    const found = maps[i] && against(current.coverage, maps[i]);
    return found ? `${model.label}: ${percent(found.mass)} of this map lies inside the lesion, which covers ${percent(found.area)} of the image; its hottest patch is ${percent(found.hottest)} inside.` : `${model.label}: no map.`;
  });
  $("live-quality").textContent = `Shown now. ${lines.join(" ")}`;
}

function readOut() {
  const p = cursor.patch, grid = current.grid, parts = [`Patch row ${Math.floor(p / grid) + 1}, column ${(p % grid) + 1} of ${grid} x ${grid}`];
  for (const model of shownModels()) {
    const map = mapOf(model.name);
    if (map) parts.push(`${model.label} ${number(map[p])}${state.patches.size ? `, chosen patches together ${amount(sumOver(map, state.patches))}` : ""}`);
  }
  $("readout").textContent = `${parts.join("; ")}.`;
}
