"use strict";
// Tables sort by the column whose name is pressed: numbers by data-value, other text by its letters.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => header.querySelector("button").addEventListener("click", () => {
    const up = header.getAttribute("aria-sort") !== "ascending";
    const body = table.tBodies[0];
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const rank = (text) => text === "" ? NaN : Number(text);
    const compare = (a, b) => {
      const x = key(a), y = key(b), p = rank(x), q = rank(y);
      if (!Number.isNaN(p) && !Number.isNaN(q)) return up ? p - q : q - p;
      if (x === "" || y === "") return (x === "") - (y === "");  // what is missing comes last
      return (up ? 1 : -1) * x.localeCompare(y, "en", {numeric: true});
    };
    const rows = [...body.rows].sort(compare);
    for (const other of headers) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  }));
}
