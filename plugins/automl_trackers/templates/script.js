// Sorts the table of trials: by its buttons, or by an address that ends in #sort=accuracy or #sort=-accuracy.
(() => {
  const table = document.querySelector("table.trials");
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const key = (row, column) => {
    const text = row.cells[column].dataset.key;
    const number = Number(text);
    return text === undefined || text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const sort = (column, down) => {
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    const sign = down ? -1 : 1;
    rows.sort(([a], [b]) => (a === null) - (b === null) || (a === b ? 0 : a < b ? -sign : sign));
    body.append(...rows.map(([, row]) => row));
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sort(column, now ? now === "ascending" : head.dataset.first === "down");
    });
  });
  const asked = /^#sort=(-?)(.+)$/.exec(location.hash);
  if (asked) {
    let name = asked[2];
    try { name = decodeURIComponent(name); } catch { /* a stray percent sign is part of the name */ }
    const column = heads.findIndex((head) => head.dataset.name === name);
    if (column >= 0) sort(column, asked[1] === "-");
  }
})();
