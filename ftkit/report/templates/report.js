// The page's own script: plots by Bokeh, tables that sort, lists that filter, day and night. No framework.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);

  // Plots: Bokeh draws them; their colours are names of the page's palette, which is looked up anew by day and by night.
  Bokeh.logger.set_level("error");
  const roots = [];
  function colour(name) {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(--${name})`;
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }
  function paint(root) {
    for (const model of root.references()) for (const [key, name] of model.tags ?? []) model[key] = colour(name);
  }
  const repaint = () => roots.forEach(paint);
  for (const item of data.plots) {
    Bokeh.embed.embed_item(item).then((views) => {
      for (const view of views) { roots.push(view.model); paint(view.model); }
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

  // Tables: a click on a column's name sorts by it, another one turns it round.
  const valueOf = (row, column) => { const cell = row.cells[column]; return cell.dataset.value ?? cell.textContent.trim(); };
  function sort(table, column, descending) {
    const body = table.tBodies[0], rows = [...body.rows];
    const numbers = rows.every((row) => valueOf(row, column) === "" || !Number.isNaN(Number(valueOf(row, column))));
    const compare = (one, other) => {
      const [a, b] = [valueOf(one, column), valueOf(other, column)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return (numbers ? a - b : a.localeCompare(b)) * (descending ? -1 : 1);
    };
    body.append(...rows.sort(compare));
    table.dispatchEvent(new Event("sorted"));
    [...table.tHead.rows[0].cells].forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, column, head.getAttribute("aria-sort") === "ascending"));
    });
  }

  // Lists: what is typed and what is chosen hide the rows that do not fit; of those that fit, some are shown at once.
  for (const filter of document.querySelectorAll(".filter")) {
    const list = document.getElementById(filter.dataset.for), step = Number(filter.dataset.step);
    const typed = filter.querySelector("input"), chosen = filter.querySelector("select.groups"), shown = filter.querySelector("output");
    const more = Object.assign(document.createElement("button"), { type: "button", className: "tool more" });
    (list.closest(".scroll") ?? list).after(more);
    let most = step;
    const apply = () => {
      const rows = [...list.querySelectorAll("[data-group]")], words = typed.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const fits = (!chosen || !chosen.value || row.dataset.group === chosen.value) && words.every((word) => text.includes(word));
        count += fits;
        row.hidden = !fits || count > most;
      }
      shown.textContent = count === rows.length ? `${count} rows` : `${count} of ${rows.length} rows`;
      more.hidden = count <= most;
      more.textContent = `show ${Math.min(4 * step, count - most)} more`;
    };
    more.addEventListener("click", () => { most += 4 * step; apply(); });
    typed.addEventListener("input", () => { most = step; apply(); });
    chosen?.addEventListener("change", () => { most = step; apply(); });
    list.addEventListener("sorted", apply);
    apply();
  }

  document.getElementById("against")?.addEventListener("change", (event) => {
    document.getElementById("examples-list").classList.toggle("by-wanted", event.target.value === "wanted");
  });
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement, dark = root.style.colorScheme ? root.style.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.style.colorScheme = dark ? "light" : "dark";
    repaint();
  });
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(text);
      }
    });
  }

  // On paper the recipe cannot be opened, and the width is that of the sheet.
  const closed = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("#recipe details:not([open])")) { details.open = true; closed.push(details); }
    repaint();
  });
  addEventListener("afterprint", () => {
    closed.splice(0).forEach((details) => { details.open = false; });
    repaint();
  });
})();
