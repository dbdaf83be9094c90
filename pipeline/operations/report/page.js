"use strict";
// Search and sort of the table of works. Without it the page shows everything just as well.
const table = document.querySelector(".works");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const find = document.querySelector("#find");
  const count = document.querySelector("#count");
  const show = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };
  find.addEventListener("input", show);
  show();
  for (const head of table.tHead.rows[0].cells) {
    head.querySelector("button").addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way);
      const at = head.cellIndex;
      const value = (row) => row.cells[at].dataset.value ?? row.cells[at].textContent;
      const sign = way === "ascending" ? 1 : -1;
      const compare = head.classList.contains("number")
        ? (a, b) => Number(value(a)) - Number(value(b))
        : (a, b) => value(a).localeCompare(value(b), undefined, { numeric: true });
      rows.sort((a, b) => sign * compare(a, b));
      body.append(...rows);
    });
  }
}
