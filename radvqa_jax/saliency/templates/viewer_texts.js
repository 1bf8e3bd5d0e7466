
// ---- texts and tables of a case, and the choices that it offers

/** @param {ModelInfo} model */
function outcome(model) {
  const marks = /** @type {Record<string, string>} */ ({ correct: "✓", incorrect: "✗", unparsed: "?" });
  return model.outcome ? text("span", `${marks[model.outcome]} ${model.outcome}`, { class: `outcome ${model.outcome}`, title: `by the rule: ${model.rule}` }) : "";
}

/** @param {string} name @param {(string | Node)[]} values */
function described(name, values) {
  const shown = document.createElement("dd");
  shown.append(...values);
  return [text("dt", name), shown];
}

function showTexts() {
  // The last model is the one whose words are looked at: it comes first.
  const rows = [described("question", [text("span", current.question, { class: "question" })])];
  current.models.toReversed().forEach((model, i) => {
    const cut = model.cut ? text("span", "… (cut)", { class: "cut", title: "ran out of tokens before it ended" }) : "";
    rows.push(described(model.label, [text("span", model.prediction, i === 0 ? { class: "shown" } : {}), cut, outcome(model)]));
    if (i === 0 && current.reference) rows.push(described("reference", [current.reference]));
  });
  $("qa").replaceChildren(...rows.flat());
  $("headline").replaceChildren(...current.headline.map(([name, value]) => {
    const tile = text("p", value);
    tile.append(text("small", name));
    return tile;
  }));
  const facts = [["question id", current.id], ["image", `${current.image.original.join(" x ")} pixels`], ...current.facts];
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => described(name, [value])));
  $("notes").replaceChildren(...current.notes.map((note) => text("li", note)));
  for (const [id, query] of LISTS) $(id).replaceChildren(...wordsOf(query).map((word, w) => wordOption(id, query, word, w)));
  showQuality();
}

/** @param {string} id @param {string} query @param {Word} word @param {number} w */
function wordOption(id, query, word, w) {
  const shown = query === "answer" && word.end ? "(end)" : word.text.trim().replace(/^\\n$/, "") || "(line end)";
  const option = text("li", shown, { role: "option", id: `${id}-${w}`, class: word.end ? "end" : "" });
  const meter = text("span", "", { class: "meter", "aria-hidden": "true" });
  meter.append(text("i", ""));
  option.append(text("span", "", { class: "share" }), meter);
  option.addEventListener("click", (event) => clickWord(query, w, event));
  return option;
}

/** @param {HTMLElement} table @param {string[]} names @param {HTMLElement[]} rows @param {string} about */
function fillTable(table, names, rows, about) {
  const head = text("tr", ""), top = text("thead", ""), body = text("tbody", "");
  head.append(...names.map((name, i) => text("th", name, { scope: "col", class: i ? "n" : "" })));
  top.append(head);
  body.append(...rows);
  table.replaceChildren(text("caption", about, { class: "soft" }), top, body);
}

/** @param {string} label @param {string[]} values @param {string} kind */
function tableRow(label, values, kind = "") {
  const line = text("tr", "", { class: kind });
  line.append(text("th", label, { scope: "row" }), ...values.map((value) => text("td", value, { class: "n" })));
  return line;
}

function showQuality() {
  $("quality-field").hidden = !current.quality.length;
  const rows = current.quality.map((row) => {
    const label = row.model === null ? `${row.method}, blind to the question` : `${describe(row)}, ${labelOf(row.model)}`;
    const hottest = row.hit > 0 ? (row.hit < 1 ? "tie" : "inside") : "outside";
    return tableRow(label, [percent(row.mass), percent(row.area), hottest, row.roc_auc.toFixed(2)], row.model === null ? "soft" : "");
  });
  const about = "Inside: share of the map inside the marked region. By chance an area under the ROC curve is 0.50.";
  fillTable($("quality"), ["whole answer", "inside", "by chance", "hottest patch", "area under ROC"], rows, about);
}

const AGAINST = /** @type {Record<string, string>} */ ({ contrast: "", contrast_first: ", first token that differs" });
const methodLabel = (/** @type {string} */ name) => (name in AGAINST ? `This answer against “${current.other}”${AGAINST[name]}` : shared.methods[name]?.label ?? name);

/** @param {{method: string, layer?: number | null, head?: number | null, residual?: number | null, vision?: boolean}} item */
function describe(item) {
  const parts = [methodLabel(item.method)];
  if (item.layer !== undefined && item.layer !== null) parts.push(`layer ${item.layer}`);
  if (item.head !== undefined && item.head !== null) parts.push(`head ${item.head}`);
  if (item.residual !== null && item.residual !== undefined) parts.push(`residual ${item.residual}`);
  if (item.vision) parts.push("through the vision tower");
  return parts.join(", ");
}

/** @param {HTMLSelectElement} select @param {[unknown, string][]} options @param {unknown} chosen */
function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, label]) => text("option", label, { value: JSON.stringify(value) })));
  select.value = JSON.stringify(chosen);
}

// Offers what the method has, and moves the state to the nearest map that there is.
function showChoices() {
  fill(menu("method"), methods().map((name) => [name, methodLabel(name)]), state.method);
  $("about").textContent = shared.methods[state.method]?.about ?? "";
  const names = { layer: "all layers (mean)", head: "all heads (mean)", residual: "none" };
  for (const key of /** @type {("layer" | "head" | "residual")[]} */ (["layer", "head", "residual"])) {
    const found = offered(key).sort((a, b) => (a ?? -1) - (b ?? -1));
    if (!found.includes(state[key])) state[key] = found.includes(0.5) ? 0.5 : found[0];
    fill(menu(key), found.map((value) => [value, value === null ? names[key] : String(value)]), state[key]);
    $(`${key}-field`).hidden = found.length < 2 && found[0] === null;
  }
  const visions = offered("vision");
  if (!visions.includes(state.vision)) state.vision = visions[0];
  field("vision").checked = state.vision;
  field("vision").disabled = visions.length < 2;
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
  for (const radio of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("[name=view]"))) radio.checked = radio.value === state.view;
  $("pair-field").hidden = state.view !== "difference";
  [menu("first").value, menu("second").value] = [state.first, state.second];
}

// Values with a sign have colours of their own.
function showColours() {
  const names = Object.keys(tables).filter((name) => shared.diverging.includes(name) === isSigned());
  if (names.includes(menu("colours").value)) return;
  $("colours").replaceChildren(...names.map((name) => text("option", name, { value: name })));
}

/**
 * A combination that no map has (a head of "all layers") moves the other choices, as few of them as can be.
 * @param {string} changed
 */
function settle(changed) {
  const shown = state.view === "difference" ? [state.first, state.second] : panes().map((pane) => pane.name);
  if (!shown.some((name) => findMap(name))) {
    /** @type {("layer" | "head" | "residual" | "vision")[]} */
    const keys = ["layer", "head", "residual", "vision"];
    const alike = (/** @type {MapItem} */ item) => keys.filter((key) => item[key] === state[key]).length;
    const fixed = keys.find((key) => key === changed);
    const possible = current.maps.index.filter((item) => here(item) && item.method === state.method && (!fixed || item[fixed] === state[fixed]));
    const { layer, head, residual, vision } = possible.sort((a, b) => alike(b) - alike(a))[0];
    Object.assign(state, { layer, head, residual, vision });
  }
  showChoices();
}
