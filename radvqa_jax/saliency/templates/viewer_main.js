
// ---- the controls, keys that work everywhere, and the beginning

for (const [id, query] of LISTS) $(id).addEventListener("keydown", (event) => keyWord(id, query, event));
$("clear").addEventListener("click", clearPatches);
$("all-words").addEventListener("click", () => chooseWhole("answer"));
$("all-prompt").addEventListener("click", () => chooseWhole("question"));
$("method").addEventListener("change", () => {
  state.method = JSON.parse(menu("method").value);
  showChoices();
  settle("method");
  draw();
});
for (const key of /** @type {("first" | "second")[]} */ (["first", "second"])) {
  $(key).addEventListener("change", () => {
    state[key] = menu(key).value;
    settle(key);
    draw();
  });
}
for (const key of /** @type {("layer" | "head" | "residual")[]} */ (["layer", "head", "residual"])) {
  $(key).addEventListener("change", () => {
    state[key] = JSON.parse(menu(key).value);
    settle(key);
    draw();
  });
}
$("vision").addEventListener("change", () => { state.vision = field("vision").checked; settle("vision"); draw(); });
const showOpacity = () => { $("opacity-value").textContent = `${field("opacity").value} %`; };
$("opacity").addEventListener("input", () => { showOpacity(); draw(); });
for (const id of ["limits", "colours", "fade", "show", "outline"]) $(id).addEventListener("change", draw);
$("show-prompt").addEventListener("change", () => {
  if (!field("show-prompt").checked && state.query === "question") chooseWhole("answer");
  else draw();
});
$("controls").addEventListener("submit", (event) => event.preventDefault());

for (const button of document.querySelectorAll(".tool")) button.addEventListener("click", () => setTool(button.getAttribute("data-tool") ?? ""));
$("zoom-in").addEventListener("click", () => zoomBy(1.5));
$("zoom-out").addEventListener("click", () => zoomBy(1 / 1.5));
$("fit").addEventListener("click", () => { resetLook(); draw(); });

/** @param {string} id */
const toggle = (id) => { field(id).checked = !field(id).checked; draw(); };

/** @param {number} by */
function step(by) {
  const to = Number(menu("case").value) + by;
  if (to >= 0 && to < blocks.length) goTo(to);
}

/** @type {Record<string, () => void>} */
const KEYS = {
  n: () => step(1), p: () => step(-1), s: () => setTool("patches"), v: () => setTool("move"), w: () => setTool("window"),
  m: () => setTool(state.tool === "magnify" ? "patches" : "magnify"), o: () => toggle("show"),
  "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: () => { resetLook(); draw(); },
};
document.addEventListener("keydown", (event) => {
  const at = /** @type {HTMLElement} */ (event.target), action = KEYS[event.key.toLowerCase()];
  // In a list of choices a letter chooses by name.
  if (!action || !current || event.ctrlKey || event.metaKey || event.altKey || at.tagName === "SELECT") return;
  event.preventDefault();
  action();
});

/** @param {number} index */
function goTo(index) {
  menu("case").value = String(index);
  /** @type {HTMLButtonElement} */ ($("previous")).disabled = index === 0;
  /** @type {HTMLButtonElement} */ ($("next")).disabled = index === blocks.length - 1;
  openCase(index).catch((error) => { $("readout").textContent = `This case cannot be shown: ${error.message}`; throw error; });
}

$("case").addEventListener("change", () => goTo(Number(menu("case").value)));
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("cases").hidden = blocks.length < 2;
showOpacity();
goTo(0);
