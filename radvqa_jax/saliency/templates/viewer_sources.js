
// ---- where the chosen words of the answer read: the image against the text

/**
 * [place, value, kind] of all that the chosen words read; none if the map has no values of the text.
 * @param {Pane} pane @returns {[string, number, string][]}
 */
function sources(pane) {
  const words = chosenWords(), map = pane.map(words), prompt = pane.read(words), earlier = pane.earlier(words);
  if (state.query !== "answer" || state.vision || !map || !prompt || !earlier) return [];
  const last = current.prompt.length - 1, add = (/** @type {Iterable<number>} */ values) => sumOver(Float64Array.from(values), null);
  /** @type {[string, number, string][]} */
  const read = [...earlier].flatMap((value, w) => (value !== 0 ? [[`“${current.words[w].text.trim()}”`, value, "from-text word"]] : []));
  return [
    ["the image", add(map), "from-image"],
    ["the question", add([...prompt].slice(1, last)), "from-text"],
    ["the beginning (BOS)", prompt[0], "from-text"],
    ["the line end", prompt[last], "from-text"],
    ["earlier words of the answer", add(earlier), "from-text"],
    ...read,
  ];
}

/** @param {Pane} pane */
function showSources(pane) {
  const found = sources(pane), parts = found.filter(([, , kind]) => !kind.includes("word"));
  $("sources-field").hidden = !found.length;
  const top = Math.max(...found.map(([, value]) => Math.abs(value)), 0) || 1;
  const rows = found.map(([place, value, kind]) => {
    const line = tableRow(place, [amount(value)], kind), cell = text("td", ""), meter = text("span", "", { class: "meter", "aria-hidden": "true" }), bar = text("i", "");
    bar.style.width = `${(100 * Math.abs(value)) / top}%`;
    meter.append(bar);
    cell.append(meter);
    line.append(cell);
    return line;
  });
  const image = parts.length ? parts[0][1] : 0, all = parts.reduce((sum, [, value]) => sum + value, 0);
  const share = !isSigned() && all > 0 ? `${percent(image / all)} of it on the image, ${percent(1 - image / all)} on text` : "less one from the other";
  fillTable($("sources"), ["read by the chosen words", isShare() ? "share" : "amount", ""], rows, `${pane.label}: ${share}.`);
  $("sources").dataset.values = JSON.stringify(found.map(([, value]) => value));
}
