// Tables that sort: without this script they stand as they were written, best first.
"use strict";
const said = document.getElementById("said");

function value(row, column) {
  const text = row.cells[column].dataset.sort;
  return text === undefined || text === "" ? null : isNaN(text) ? text : Number(text);
}

function compare(one, other) {
  return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
}

function sort(table, column, header) {
  const before = header.getAttribute("aria-sort");
  const direction = before === "ascending" ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [value(row, column), row]);
  // What has no value stands last either way; the sort is stable, so equal rows keep their order.
  rows.sort(([one], [other]) => (one === null) - (other === null) || (one === null ? 0 : sign * compare(one, other)));
  body.append(...rows.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) {
    if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  }
  header.setAttribute("aria-sort", direction);
  said.textContent = `Sorted by ${header.textContent.trim()}, ${direction}.`;
}

for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    if (!header.hasAttribute("aria-sort")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sort(table, column, header));
  });
}
