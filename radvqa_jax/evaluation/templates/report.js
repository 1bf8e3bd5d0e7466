"use strict";
(() => {
  // Paper cannot be unfolded: the whole table, and the cases that the filters leave if they are few, are printed open.
  const MOST_PRINTED = 20;
  /** @type {HTMLDetailsElement[]} */
  let unfolded = [];
  window.addEventListener("beforeprint", () => {
    const folded = /** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("details:not([open])"));
    const few = document.querySelectorAll("details.case:not([hidden])").length <= MOST_PRINTED;
    const wanted = few ? "details.whole, details.case:not([hidden])" : "details.whole";
    unfolded = [...folded].filter((item) => item.matches(wanted));
    for (const item of unfolded) item.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const item of unfolded) item.open = false;
    unfolded = [];
  });

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
