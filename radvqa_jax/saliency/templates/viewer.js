
// The page. Every text of a case goes through `text` or an attribute, never through markup.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const shared = JSON.parse($("shared").textContent);
const tables = Object.fromEntries(Object.entries(shared.colours).map(([name, data]) => [name, decodeBase64(data)]));
const blocks = [...document.querySelectorAll("script.case")];
// What is shown. `query` says whose words are chosen: those of the answer or those of the question.
const state = { view: "", first: "", second: "", query: "answer", method: "", layer: null, head: null, residual: null, vision: false, words: new Set(), patches: new Set() };
const LISTS = [["words", "answer"], ["prompt", "question"]]; // element -> whose words it shows
let current = null; // the case that is shown
let anchor = {}, cursor = {}, dragging = false; // of the words of the answer, those of the question, and the patches

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
  current = { ...data, index, buffer, pixels, cache: new Map(), spans: new Map() };
  state.view = current.models.length > 1 ? "both" : current.models[0].name;
  [state.first, state.second] = [current.models.at(-1).name, current.models[0].name];
  chooseAll("answer");
  if (!methods().includes(state.method)) state.method = methods()[0];
  state.patches.clear();
  cursor = { answer: 0, question: 0, patch: (current.grid + 1) * Math.floor(current.grid / 2) };
  anchor = { ...cursor };
  showTexts();
  showChoices();
  buildPanels();
  draw();
}

const here = (item) => item.query === state.query;
const methods = () => [...new Set(current.maps.index.filter(here).map((item) => item.method))];
const offered = (key) => [...new Set(current.maps.index.filter((item) => here(item) && item.method === state.method).map((item) => item[key]))];
const wordsOf = (query) => (query === "answer" ? current.words : current.prompt);
const chosenWords = () => [...state.words].sort((a, b) => a - b);
const labelOf = (name) => current.models.find((model) => model.name === name).label;
const isSigned = () => state.view === "difference" || (shared.methods[state.method]?.signed ?? false);
const isShare = () => shared.methods[state.method]?.share ?? false;

function findMap(model, wanted = state) {
  const keys = ["query", "method", "layer", "head", "residual", "vision"];
  return current.maps.index.find((item) => item.model === model && keys.every((key) => item[key] === wanted[key]));
}

function valuesOf(item) {
  if (!current.cache.has(item)) current.cache.set(item, mapValues(current.buffer, item, wordsOf(item.query).length, current.grid ** 2, shared.methods[item.method]?.signed));
  return current.cache.get(item);
}

// A pane is one picture: a model, or one model less another. Its functions return null where there is no such map.
function modelPane({ name, label }) {
  return {
    name, label,
    map: (words, wanted = state) => {
      const item = findMap(name, wanted);
      return item ? meanOfWords(valuesOf(item), wordsOf(item.query), words) : null;
    },
    read: (words) => {
      const item = findMap(name);
      return item?.prompt ? meanOfWords(item.prompt, wordsOf(item.query), words) : null;
    },
    earlier: (words) => {
      const item = findMap(name);
      return item?.earlier ? meanOfWords(item.earlier, wordsOf(item.query), words) : null;
    },
  };
}

function differencePane() {
  const [a, b] = [state.first, state.second].map((name) => modelPane({ name }));
  const less = (ask, normalise) => {
    const [first, second] = [ask(a), ask(b)];
    return first && second && difference(first, second, normalise);
  };
  return {
    name: "difference",
    label: `${labelOf(state.first)} less ${labelOf(state.second)}`,
    map: (words, wanted = state) => less((pane) => pane.map(words, wanted), !isShare()),
    read: (words) => less((pane) => pane.read(words), false),
    earlier: (words) => less((pane) => pane.earlier(words), false),
  };
}

function panes() {
  if (state.view === "difference") return [differencePane()];
  return current.models.filter((model) => state.view === "both" || model.name === state.view).map(modelPane);
}

function chooseAll(query) {
  const words = wordsOf(query), inner = [...words.keys()].filter((w) => !words[w].end);
  state.query = query;
  state.words = new Set(inner.length ? inner : words.keys());
}

// One scale for what is compared: of the maps on the screen, or of every word, layer, head and model of the method.
function limitOf(maps) {
  if ($("limits").value === "relative") return Math.max(0, ...maps.filter(Boolean).map(largest));
  const items = current.maps.index.filter((item) => here(item) && item.method === state.method);
  if (state.view !== "difference") return Math.max(0, ...items.flatMap((item) => item.scale));
  const key = [state.query, state.method, state.first, state.second].join("\n");
  if (!current.spans.has(key)) {
    const pane = differencePane(), words = [...wordsOf(state.query).keys()];
    const tops = items.filter((item) => item.model === state.first).flatMap((item) => words.map((w) => largest(pane.map([w], item) ?? [])));
    current.spans.set(key, Math.max(0, ...tops));
  }
  return current.spans.get(key);
}

// ---- what does not change while a case is open

function outcome(model) {
  return model.outcome ? text("span", `${{ correct: "✓", incorrect: "✗", unparsed: "?" }[model.outcome]} ${model.outcome}`, { class: `outcome ${model.outcome}`, title: `by the rule: ${model.rule}` }) : "";
}

function showTexts() {
  const rows = [["question", text("span", current.question, { class: "question" })]];
  if (current.reference) rows.push(["reference", current.reference]);
  for (const model of current.models) rows.push([model.label, text("span", model.prediction), model.cut ? text("span", "… (cut)", { class: "cut", title: "ran out of tokens before it ended" }) : "", outcome(model)]);
  $("qa").replaceChildren(...rows.flatMap(([name, ...values]) => {
    const shown = document.createElement("dd");
    shown.append(...values);
    return [text("dt", name), shown];
  }));
  const facts = [["question id", current.id], ["image", `${current.image.original.join(" x ")} pixels`], ...current.facts];
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [text("dt", name), text("dd", value)]));
  $("notes").replaceChildren(...current.notes.map((note) => text("li", note)));
  for (const [id, query] of LISTS) {
    $(id).replaceChildren(...wordsOf(query).map((word, w) => {
      const shown = query === "answer" && word.end ? "(end)" : word.text.trim().replace(/^\\n$/, "") || "(line end)";
      const option = text("li", shown, { role: "option", id: `${id}-${w}`, class: word.end ? "end" : "" });
      const meter = text("span", "", { class: "meter", "aria-hidden": "true" });
      meter.append(text("i", ""));
      option.append(text("span", "", { class: "share" }), meter);
      option.addEventListener("click", (event) => clickWord(query, w, event));
      return option;
    }));
  }
  showQuality();
}

function showQuality() {
  $("quality-field").hidden = !current.quality.length;
  const head = text("tr", "");
  head.append(...["whole answer", "inside", "by chance", "hottest patch", "area under ROC"].map((name) => text("th", name, { scope: "col" })));
  const rows = current.quality.map((row) => {
    const label = row.model === null ? `${row.method}, blind to the question` : `${describe(row)}, ${labelOf(row.model)}`;
    const hottest = row.hit > 0 ? (row.hit < 1 ? "tie" : "inside") : "outside", line = text("tr", "", { class: row.model === null ? "soft" : "" });
    line.append(text("th", label, { scope: "row" }), ...[percent(row.mass), percent(row.area), hottest, row.roc_auc.toFixed(2)].map((value) => text("td", value)));
    return line;
  });
  const body = document.createElement("tbody"), top = document.createElement("thead"), about = "Inside: share of the map inside the marked region. By chance an area under the ROC curve is 0.50.";
  top.append(head);
  body.append(...rows);
  $("quality").replaceChildren(text("caption", about, { class: "soft" }), top, body);
}

const AGAINST = { contrast: "", contrast_first: ", first token that differs" };
const methodLabel = (name) => (name in AGAINST ? `This answer against “${current.other}”${AGAINST[name]}` : shared.methods[name]?.label ?? name);

function describe(item) {
  const parts = [methodLabel(item.method)];
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
  fill($("method"), methods().map((name) => [name, methodLabel(name)]), state.method);
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
  showViews();
  showColours();
}

function showViews() {
  const several = current.models.length > 1 ? [["both", "side by side"], ["difference", "difference"]] : [];
  const views = [...current.models.map((model) => [model.name, model.label]), ...several];
  $("view-field").hidden = views.length < 2;
  if ($("views").dataset.case !== String(current.index)) {
    // Made once a case: a radio button that is replaced loses the focus.
    $("views").dataset.case = String(current.index);
    $("views").replaceChildren(...views.map(([name, label]) => {
      const item = document.createElement("label"), radio = text("input", "", { type: "radio", name: "view", value: name });
      radio.addEventListener("change", () => { state.view = name; showViews(); showColours(); buildPanels(); draw(); });
      item.append(radio, text("span", label));
      return item;
    }));
    for (const key of ["first", "second"]) $(key).replaceChildren(...current.models.map((model) => text("option", model.label, { value: model.name })));
  }
  for (const radio of document.querySelectorAll("[name=view]")) radio.checked = radio.value === state.view;
  $("pair-field").hidden = state.view !== "difference";
  for (const key of ["first", "second"]) $(key).value = state[key];
}

// Values with a sign have colours of their own.
function showColours() {
  const names = Object.keys(tables).filter((name) => shared.diverging.includes(name) === isSigned());
  if (names.includes($("colours").value)) return;
  $("colours").replaceChildren(...names.map((name) => text("option", name, { value: name })));
}

// A combination that no map has (a head of "all layers") moves the other choices, as few of them as can be.
function settle(changed) {
  const shown = state.view === "difference" ? [state.first, state.second] : panes().map((pane) => pane.name);
  if (!shown.some((name) => findMap(name))) {
    const keys = ["layer", "head", "residual", "vision"], alike = (item) => keys.filter((key) => item[key] === state[key]).length;
    const possible = current.maps.index.filter((item) => here(item) && item.method === state.method && (!keys.includes(changed) || item[changed] === state[changed]));
    const nearest = possible.sort((a, b) => alike(b) - alike(a))[0];
    for (const key of keys) state[key] = nearest[key];
  }
  showChoices();
}

function buildPanels() {
  const { width, height } = current.image;
  $("panels").replaceChildren(...panes().map((pane) => {
    const panel = text("figure", "", { "data-model": pane.name }), stage = text("div", "", { class: "stage", tabindex: "0", role: "application", "aria-describedby": "patch-help" });
    const canvas = text("canvas", "", { class: "map" });
    canvas.width = width;
    canvas.height = height;
    // As large as the column and the window allow, at the image's own aspect.
    const [across, down] = current.image.original; // a small image has more pixels here than there
    stage.style.aspectRatio = `${across} / ${down}`;
    stage.style.width = `min(100%, calc(min(78vh, 44rem) * ${across / down}))`;
    const over = drawing("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const name of ["halo marked", "outline marked", "halo", "chosen", "cursor"]) over.append(drawing("path", { class: name }));
    stage.append(canvas, over);
    stage.addEventListener("pointerdown", pressPatch);
    stage.addEventListener("pointermove", movePointer);
    stage.addEventListener("keydown", keyPatch);
    stage.addEventListener("focus", readOut);
    panel.append(text("figcaption", ""), stage);
    return panel;
  }));
}
