
// ---- drawing

function draw() {
  const shown = panes(), maps = shown.map((pane) => pane.map(chosenWords())), limit = limitOf(maps), signed = isSigned();
  const table = tables[$("colours").value], opacity = $("show").checked ? Number($("opacity").value) / 100 : 0;
  shown.forEach((pane, i) => {
    const panel = $("panels").children[i], canvas = panel.querySelector("canvas"), context = canvas.getContext("2d");
    const target = context.createImageData(canvas.width, canvas.height);
    blend(target, current.pixels, maps[i] ?? new Float64Array(current.grid ** 2), { grid: current.grid, limit, signed, opacity: maps[i] ? opacity : 0, fade: $("fade").checked, table });
    context.putImageData(target, 0, 0);
    const share = maps[i] ? `${amount(sumOver(maps[i], null))} on the image` : "no such map of this model";
    panel.querySelector("figcaption").textContent = `${pane.label}: ${share}`;
    panel.querySelector(".stage").setAttribute("aria-label", `Image with ${describe(state)}, ${pane.label}. ${share}.`);
  });
  drawMarks();
  drawScale(limit, table);
  drawAtlas(table);
  drawWords(shown.at(-1));
  showMeasures(shown, maps);
  readOut();
}

// A share in percent, what has no unit as a number; with a sign where there may be one.
function amount(value) {
  return (isSigned() && value > 0 ? "+" : "") + (isShare() ? percent(value) : number(value));
}

function patchPath(patches) {
  const { width, height } = current.image, w = width / current.grid, h = height / current.grid;
  return [...patches].map((p) => `M${(p % current.grid) * w} ${Math.floor(p / current.grid) * h}h${w}v${h}h${-w}z`).join("");
}

function drawMarks() {
  const outline = $("outline").checked ? current.outline : "";
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

function drawScale(limit, table) {
  const context = $("bar").getContext("2d"), ramp = context.createImageData(256, 1), signed = isSigned();
  for (let i = 0; i < 256; i++) ramp.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
  context.putImageData(ramp, 0, 0);
  const unit = shared.methods[state.method]?.unit ?? "value", pattern = state.view === "difference" && !isShare();
  const [less, more] = signed ? ends().map((end) => `, ${end}`) : ["", ""];
  $("low").textContent = signed ? `${number(-limit)}${less}` : "0";
  $("high").textContent = `${number(limit)}${more}`;
  $("unit").textContent = `${pattern ? `share of the map's ${unit}` : unit} a patch, ${$("limits").value} scale`;
  const whose = state.view === "difference" ? "and head of this difference" : "head and model of this method";
  $("scale-note").textContent = {
    relative: "Relative: up to the largest value of what is shown. Colours of another choice mean other values.",
    absolute: `Absolute: one scale for every word of the ${state.query}, layer, ${whose} in this case.`,
  }[$("limits").value];
  $("high").dataset.limit = String(limit);
}

function drawAtlas(table) {
  if ($("atlas-field").hidden) return;
  const pane = panes().at(-1), words = chosenWords(), layers = offered("layer").filter((v) => v !== null).sort((a, b) => a - b);
  const heads = offered("head").filter((v) => v !== null).sort((a, b) => a - b), { grid } = current, cell = grid + 1;
  const cells = layers.flatMap((layer, i) => heads.map((head, j) => ({ i, j, layer, head, values: pane.map(words, { ...state, layer, head, vision: false }) }))).filter((item) => item.values);
  const limit = Math.max(0, ...cells.map((item) => largest(item.values))), signed = isSigned();
  const canvas = $("atlas");
  canvas.width = heads.length * cell - 1;
  canvas.height = layers.length * cell - 1;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (const item of cells) {
    item.values.forEach((value, p) => {
      const at = 4 * ((item.i * cell + Math.floor(p / grid)) * canvas.width + item.j * cell + (p % grid)), from = 3 * colourIndex(value, limit, signed);
      image.data.set([table[from], table[from + 1], table[from + 2], 255], at);
    });
  }
  context.putImageData(image, 0, 0);
  const from = signed ? number(-limit) : "0";
  $("atlas-scale").textContent = `${pane.label}, from ${from} to ${number(limit)}`;
  canvas.setAttribute("aria-label", `${layers.length} layers by ${heads.length} heads, ${pane.label}, from ${from} to ${number(limit)}`);
  canvas.onclick = (event) => {
    const box = canvas.getBoundingClientRect();
    state.head = heads[Math.min(heads.length - 1, Math.floor(((event.clientX - box.left) / box.width) * heads.length))];
    state.layer = layers[Math.min(layers.length - 1, Math.floor(((event.clientY - box.top) / box.height) * layers.length))];
    settle("head");
    draw();
  };
}

// What each word read in the image, or in the chosen patches; under the question, while words of the answer are chosen,
// what these read of it.
function drawWords(pane) {
  const patches = state.patches.size ? state.patches : null, read = state.query === "answer" ? pane.read(chosenWords()) : null;
  for (const [id, query] of LISTS) {
    const options = [...$(id).children], given = query === "question" && read;
    const maps = given ? [] : options.map((_, w) => pane.map([w], { ...state, query }));
    const shares = given ? [...read] : maps.map((map) => map && sumOver(map, patches));
    const top = Math.max(...shares.map((share) => Math.abs(share ?? 0))) || 1;
    options.forEach((option, w) => {
      const share = shares[w], say = share === null ? "" : amount(share);
      option.setAttribute("aria-selected", String(query === state.query && state.words.has(w)));
      option.tabIndex = w === cursor[query] ? 0 : -1;
      option.querySelector(".share").textContent = say;
      option.dataset.share = share === null ? "" : String(share);
      option.querySelector(".meter").hidden = share === null;
      option.querySelector(".meter i").style.width = `${(100 * Math.abs(share ?? 0)) / top}%`;
    });
    const where = patches ? `${patches.size} chosen ${patches.size === 1 ? "patch" : "patches"}` : "the whole image";
    const what = given ? "what the chosen words of the answer read of it" : `${isShare() ? "its share" : "its sum"} on ${where}`;
    $(`${id}-measure`).textContent = shares.some((share) => share !== null) ? `Below each word: ${what} (${pane.label}).` : "";
  }
  showSources(pane);
  const asked = current.maps.index.some((item) => item.query === "question");
  $("prompt-field").hidden = !current.prompt.length || !(asked || read);
  $("all-prompt").hidden = !asked;
  $("clear").disabled = !patches;
}

function showMeasures(shown, maps) {
  const words = chosenWords().map((w) => (state.query === "answer" && current.words[w].end ? "the end" : `“${wordsOf(state.query)[w].text.trim()}”`)).join(" ");
  const even = isSigned() ? "" : `; an even spread would give each patch ${number(sumOver(maps.at(-1) ?? [], null) / current.grid ** 2)}`;
  const less = state.view === "difference" ? `; ${shown[0].label}${isShare() ? "" : ", each map brought to sum one first"}` : "";
  $("statement").textContent = `${describe(state)}${less}; chosen words of the ${state.query}: ${words}${even}.`;
  if (!current.quality.length) return;
  const lines = shown.map((pane, i) => {
    const found = maps[i] && against(current.coverage, maps[i]);
    return found ? `${pane.label}: ${percent(found.mass)} of this map lies inside the marked region, which covers ${percent(found.area)} of the image; its hottest patch is ${percent(found.hottest)} inside.` : `${pane.label}: no map.`;
  });
  $("live-quality").textContent = isSigned() ? "Values with a sign are not measured against the marked region." : `Shown now. ${lines.join(" ")}`;
}

function readOut() {
  const p = cursor.patch, grid = current.grid, parts = [`Patch row ${Math.floor(p / grid) + 1}, column ${(p % grid) + 1} of ${grid} x ${grid}`];
  for (const pane of panes()) {
    const map = pane.map(chosenWords());
    if (map) parts.push(`${pane.label} ${number(map[p])}${state.patches.size ? `, chosen patches together ${amount(sumOver(map, state.patches))}` : ""}`);
  }
  $("readout").textContent = `${parts.join("; ")}.`;
}
