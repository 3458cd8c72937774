"use strict";
// Makes the headings of tables sort them, and says of what is wider than the screen that it scrolls. Without this script
// the tables are read in the order they came.
const marked = [...document.querySelectorAll(".scroll")].map((box) => {
  const hint = document.createElement("p");
  hint.className = "hint";
  hint.textContent = "\u2194 Wider than the screen: scroll sideways.";
  box.before(hint);
  return [box, hint];
});
const mark = () => marked.forEach(([box, hint]) => { hint.hidden = box.scrollWidth <= box.clientWidth + 1; });
addEventListener("resize", mark);
addEventListener("load", mark);
mark();
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const numeric = head.classList.contains("number");
      const rows = [...body.rows].sort((one, other) => {
        const a = key(one, column);
        const b = key(other, column);
        if (a === "" || b === "") return (a === "") - (b === ""); // what is not defined comes last either way
        return sign * (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
      });
      body.append(...rows);
    });
  });
}
