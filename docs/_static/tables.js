// Tells each cell its column's name, so that a narrow screen can show a table row by row (site.css). Tables of figures are
// left as they are. Without this script a wide table scrolls.
for (const table of document.querySelectorAll("table.docutils")) {
  const columns = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  if (columns.length === 0 || table.querySelector("td.text-right")) continue;
  table.classList.add("stacked");
  for (const row of table.tBodies[0].rows) {
    [...row.cells].forEach((cell, number) => {
      if (cell.textContent.trim()) cell.dataset.column = columns[number] ?? "";
      else cell.classList.add("nothing");
    });
  }
}
