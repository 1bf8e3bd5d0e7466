
// ---- state, and what is found in a case. Text of a case reaches the page through textContent or setAttribute, never
// through markup.
/** @param {string} id @returns {HTMLElement} */
const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @param {string} id @returns {HTMLInputElement} */
const field = (id) => /** @type {HTMLInputElement} */ ($(id));
/** @param {string} id @returns {HTMLSelectElement} */
const menu = (id) => /** @type {HTMLSelectElement} */ ($(id));
/** @param {string} id @returns {HTMLCanvasElement} */
const canvasOf = (id) => /** @type {HTMLCanvasElement} */ ($(id));
/** @param {HTMLCanvasElement} canvas */
const contextOf = (canvas) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));

const SVG = "http://www.w3.org/2000/svg";
/** @type {Shared} */
const shared = JSON.parse($("shared").textContent ?? "");
const tables = Object.fromEntries(Object.entries(shared.colours).map(([name, data]) => [name, decodeBase64(data)]));
const blocks = [...document.querySelectorAll("script.case")];
/**
 * What is shown. `query` says whose words are chosen: those of the answer or those of the question.
 * @type {State}
 */
const state = {
  view: "", first: "", second: "", query: "answer", method: "", layer: null, head: null, residual: null, vision: false,
  words: new Set(), patches: new Set(), tool: "patches", zoom: 1, x: 0, y: 0, centre: 127.5, width: 255,
};
const LISTS = [["words", "answer"], ["prompt", "question"]]; // element -> whose words it shows
/** @type {OpenCase} The case that is shown; nothing runs before there is one. */
let current;
/** @type {Record<string, number>} Of the words of the answer, those of the question, and the patches. */
let anchor = {};
/** @type {Record<string, number>} */
let cursor = {};

/** @param {string} tag @param {string} content @param {Record<string, string>} attributes */
function text(tag, content, attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = content;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** @param {string} tag @param {Record<string, string>} attributes */
function drawing(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** @param {ImageInfo} image @returns {Promise<ImageData>} */
function loadPixels(image) {
  return new Promise((resolve, reject) => {
    const element = new Image();
    element.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = image.width;
      canvas.height = image.height;
      const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
      context.drawImage(element, 0, 0);
      resolve(context.getImageData(0, 0, image.width, image.height));
    };
    element.onerror = () => reject(new Error("The image of this case cannot be decoded."));
    element.src = image.src;
  });
}

const isNarrow = () => window.matchMedia("(max-width: 58rem)").matches;

/** @param {number} index */
async function openCase(index) {
  /** @type {CaseData} */
  const data = JSON.parse(blocks[index].textContent ?? "");
  const [buffer, pixels] = await Promise.all([inflate(decodeBase64(data.maps.data)), loadPixels(data.image)]);
  if (Number(menu("case").value) !== index) return; // another case was chosen meanwhile
  current = { ...data, index, buffer, pixels, windowed: pixels, cache: new Map(), spans: new Map() };
  const names = current.models.map((model) => model.name), several = names.length > 1;
  // The last model, alone and large, is what a reader came for.
  if (![...names, ...(several ? ["both", "difference"] : [])].includes(state.view)) state.view = names[names.length - 1];
  [state.first, state.second] = [names[names.length - 1], names[0]];
  chooseAll("answer");
  if (!methods().includes(state.method)) state.method = methods()[0];
  state.patches.clear();
  cursor = { answer: 0, question: 0, patch: (current.grid + 1) * Math.floor(current.grid / 2) };
  anchor = { ...cursor };
  showTexts();
  settle("method");
  buildPanels();
  resetLook();
  draw();
}

const here = (/** @type {MapItem} */ item) => item.query === state.query;
const methods = () => [...new Set(current.maps.index.filter(here).map((item) => item.method))];
/** @param {"layer" | "head" | "residual" | "vision"} key @returns {any[]} */
const offered = (key) => [...new Set(current.maps.index.filter((item) => here(item) && item.method === state.method).map((item) => item[key]))];
const wordsOf = (/** @type {string} */ query) => (query === "answer" ? current.words : current.prompt);
const chosenWords = () => [...state.words].sort((a, b) => a - b);
const labelOf = (/** @type {string} */ name) => current.models.find((model) => model.name === name)?.label ?? name;
const isSigned = () => state.view === "difference" || (shared.methods[state.method]?.signed ?? false);
const isShare = () => shared.methods[state.method]?.share ?? false;

/** @param {string} model @param {Choice} wanted */
function findMap(model, wanted = state) {
  /** @type {(keyof Choice)[]} */
  const keys = ["query", "method", "layer", "head", "residual", "vision"];
  return current.maps.index.find((item) => item.model === model && keys.every((key) => item[key] === wanted[key]));
}

/** @param {MapItem} item @returns {Float64Array[]} */
function valuesOf(item) {
  const found = current.cache.get(item);
  if (found) return found;
  const values = mapValues(current.buffer, item, wordsOf(item.query).length, current.grid ** 2, shared.methods[item.method]?.signed);
  current.cache.set(item, values);
  return values;
}

/**
 * A pane is one picture: a model, or one model less another. Its functions return null where there is no such map.
 * @param {{name: string, label: string}} model @returns {Pane}
 */
function modelPane({ name, label }) {
  /** @param {"prompt" | "earlier"} key */
  const textOf = (key) => (/** @type {number[]} */ words) => {
    const item = findMap(name), values = item?.[key];
    return item && values ? meanOfWords(values, wordsOf(item.query), words) : null;
  };
  return {
    name, label,
    map: (words, wanted = state) => {
      const item = findMap(name, wanted);
      return item ? meanOfWords(valuesOf(item), wordsOf(item.query), words) : null;
    },
    read: textOf("prompt"),
    earlier: textOf("earlier"),
  };
}

/** @returns {Pane} */
function differencePane() {
  const [a, b] = [state.first, state.second].map((name) => modelPane({ name, label: "" }));
  /** @param {(pane: Pane) => Float64Array | null} ask @param {boolean} normalise */
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

const lastPane = () => panes()[panes().length - 1];

/** @param {string} query */
function chooseAll(query) {
  const words = wordsOf(query), inner = [...words.keys()].filter((w) => !words[w].end);
  state.query = query;
  state.words = new Set(inner.length ? inner : words.keys());
}

/**
 * One scale for what is compared: of the maps on the screen, or of every word, layer, head and model of the method.
 * @param {(Float64Array | null)[]} maps
 */
function limitOf(maps) {
  const shown = maps.flatMap((map) => map ?? []);
  if (menu("limits").value === "robust") return robustLimit(maps.filter((map) => map !== null));
  if (menu("limits").value !== "absolute") return shown.length ? largest(Float64Array.from(shown.flatMap((map) => [...map]))) : 0;
  const items = current.maps.index.filter((item) => here(item) && item.method === state.method);
  if (state.view !== "difference") return Math.max(0, ...items.flatMap((item) => item.scale));
  const key = [state.query, state.method, state.first, state.second].join("\n");
  if (!current.spans.has(key)) {
    const pane = differencePane(), words = [...wordsOf(state.query).keys()];
    const tops = items.filter((item) => item.model === state.first).flatMap((item) => words.map((w) => largest(pane.map([w], item) ?? new Float64Array())));
    current.spans.set(key, Math.max(0, ...tops));
  }
  return current.spans.get(key) ?? 0;
}
