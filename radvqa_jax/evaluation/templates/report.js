"use strict";
(() => {
  const bar = document.getElementById("filters");
  const search = bar?.querySelector("input");
  const shown = document.getElementById("shown");
  if (!bar || !search || !shown) return;
  const cases = /** @type {HTMLDetailsElement[]} */ ([...document.querySelectorAll("details.case")]);
  const selects = [...bar.querySelectorAll("select")];

  function apply() {
    const words = search?.value.trim().toLowerCase() ?? "";
    let count = 0;
    for (const item of cases) {
      const fits =
        selects.every((select) => !select.value || item.dataset[select.name] === select.value) &&
        (item.dataset.text ?? "").includes(words);
      item.hidden = !fits;
      count += fits ? 1 : 0;
    }
    if (shown) shown.textContent = `${count} of ${cases.length} shown`;
  }

  /** @param {boolean} open */
  function openAll(open) {
    for (const item of cases) if (!item.hidden) item.open = open;
  }

  bar.addEventListener("input", apply);
  document.getElementById("open")?.addEventListener("click", () => openAll(true));
  document.getElementById("close")?.addEventListener("click", () => openAll(false));
  document.getElementById("reset")?.addEventListener("click", () => {
    for (const field of [...selects, search]) field.value = "";
    apply();
  });
  bar.hidden = false;
  apply();
})();
