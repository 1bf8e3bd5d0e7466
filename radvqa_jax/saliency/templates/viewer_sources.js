
// ---- where the chosen words of the answer read: the image against the text

// Returns [place, value] of all that the chosen words read, or none if the method has no values of the text.
function sources(pane) {
  const words = chosenWords(), map = pane.map(words), prompt = pane.read(words), earlier = pane.earlier(words);
  if (state.query !== "answer" || state.vision || !map || !prompt || !earlier) return [];
  const last = current.prompt.length - 1, add = (values) => values.reduce((sum, value) => sum + value, 0);
  const found = [["the image", sumOver(map, null)], ["the beginning (BOS)", prompt[0]], ["the question", add([...prompt].slice(1, last))], ["the line end", prompt[last]]];
  const said = [...earlier].flatMap((value, w) => (value !== 0 ? [`“${current.words[w].text.trim()}” ${amount(value)}`] : []));
  return [...found, [said.length ? `earlier words of the answer (${said.join(", ")})` : "earlier words of the answer", add([...earlier])]];
}

function showSources(pane) {
  const found = sources(pane);
  $("sources").hidden = !found.length;
  $("sources").textContent = found.length ? `Read by the chosen words: ${found.map(([place, value]) => `${place} ${amount(value)}`).join(", ")} (${pane.label}).` : "";
  $("sources").dataset.values = JSON.stringify(found.map(([, value]) => value));
}
