// The page's own script: plots by Observable Plot, tables that sort, lists that filter, day and night. No framework.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const COLOURS = { train: "var(--bar)", eval: "var(--border)" };
  const figure = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toPrecision(4));
  const short = (text, most = 16) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

  function curve(spec, width) {
    const points = spec.series.flatMap(({ name, points }) => points.map(([x, y]) => ({ x, y, name })));
    const marks = [];
    if (spec.kept !== null) marks.push(Plot.ruleX([spec.kept], { stroke: "var(--learnt)", strokeWidth: 1.5, strokeDasharray: "4 3" }));
    for (const { name, points } of spec.series) {
      const long = name === "train" && points.length >= 40;
      marks.push(Plot.lineY(points, { x: "0", y: "1", stroke: COLOURS[name], strokeWidth: long ? 1 : 2, strokeOpacity: long ? 0.35 : 1 }));
      if (long) {
        const k = Math.max(3, Math.round(points.length / 20));
        marks.push(Plot.lineY(points, Plot.windowY({ k, anchor: "middle" }, { x: "0", y: "1", stroke: COLOURS[name], strokeWidth: 2 })));
      }
      if (points.length < 40) marks.push(Plot.dot(points, { x: "0", y: "1", fill: COLOURS[name], r: 3.2 }));
    }
    marks.push(Plot.ruleX(points, Plot.pointerX({ x: "x", stroke: "var(--soft)", strokeOpacity: 0.5 })));
    const said = (point) => `${spec.series.length > 1 ? point.name + " " : ""}${figure(point.y)}\nstep ${point.x}`;
    marks.push(Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: said, fill: "var(--card)", stroke: "var(--line)" })));
    return Plot.plot({
      width, height: Math.round(Math.min(300, Math.max(190, width * 0.4))), marginLeft: 48, marginRight: 14, marginTop: 12, marginBottom: 34,
      x: { label: "step", ticks: Math.max(3, Math.round(width / 90)), domain: [0, Math.max(...points.map((p) => p.x))] },
      y: { label: null, grid: true, nice: true, ticks: 5 },
      marks, style: { fontSize: "11px" },
    });
  }

  function histogram(spec, width) {
    const bars = spec.bars;
    return Plot.plot({
      width, height: 180, marginLeft: 48, marginRight: 8, marginTop: 12, marginBottom: 34,
      x: { label: "tokens a row", domain: data.lengths, ticks: Math.max(3, Math.round(width / 90)) }, y: { label: null, grid: true, ticks: 4, tickFormat: "~s" },
      style: { fontSize: "11px" },
      marks: [
        Plot.rectY(bars, { x1: "first", x2: "last", y: "count", fill: COLOURS[spec.split] || COLOURS.train, inset: 0.5, rx: 1 }),
        Plot.ruleY([0], { stroke: "var(--line)" }),
        Plot.tip(bars, Plot.pointerX({ x1: "first", x2: "last", y: "count", title: (bar) => `${bar.count.toLocaleString("en")} rows\n${bar.first} to ${bar.last} tokens`, fill: "var(--card)", stroke: "var(--line)" })),
      ],
    });
  }

  function confusion(spec, width) {
    const labels = data.confusion.labels, longest = Math.max(...labels.map((label) => short(label).length));
    const left = Math.min(130, 26 + longest * 8), cell = Math.min(72, Math.max(12, (width - left - 10) / labels.length));
    const tilted = longest * 7.5 > cell;
    const bottom = tilted ? Math.min(120, 30 + longest * 5) : 40;
    const cells = { x: "predicted", y: "true" };
    return Plot.plot({
      width: left + 10 + cell * labels.length, height: cell * labels.length + bottom + 6, marginLeft: left, marginRight: 10, marginTop: 6, marginBottom: bottom,
      x: { domain: labels, label: "predicted", tickRotate: tilted ? -45 : 0, tickFormat: (label) => short(label), tickSize: 0, labelAnchor: "center", labelArrow: "none" },
      y: { domain: labels, label: null, tickFormat: (label) => short(label), tickSize: 0 },
      marks: [
        Plot.cell(spec.cells, { ...cells, fill: "var(--page)", inset: 1, rx: 4 }),
        Plot.cell(spec.cells, { ...cells, fill: (d) => (d.right ? "var(--learnt)" : "var(--bad)"), fillOpacity: (d) => 0.75 * d.share, inset: 1, rx: 4 }),
        ...(cell >= 26 ? [Plot.text(spec.cells, { ...cells, text: (d) => (d.count ? d.count.toLocaleString("en") : ""), fill: "var(--ink)", fontSize: Math.min(14, cell / 2.6), fontWeight: 600 })] : []),
        Plot.tip(spec.cells, Plot.pointer({ ...cells, title: (d) => `${d.count} rows, ${(100 * d.share).toFixed(1)} % of "${d.true}"\npredicted "${d.predicted}"`, fill: "var(--card)", stroke: "var(--line)" })),
      ],
      style: { fontSize: `${Math.max(8, Math.min(12, 0.8 * cell))}px` }, color: { type: "identity" }, opacity: { type: "identity" },
    });
  }

  const KINDS = {
    curve: (index, width) => curve(data.curves[index], width),
    histogram: (index, width) => histogram(data.histograms[index], width),
    confusion: (index, width) => confusion(data.confusion.tables[index], width),
  };
  function draw(place, width = place.clientWidth) {
    if (width < 40) return;
    place.replaceChildren(KINDS[place.dataset.plot](Number(place.dataset.index), width));
    place.drawn = width;
  }
  const places = [...document.querySelectorAll(".plot")];
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) if (target.drawn !== target.clientWidth) draw(target);
  });
  places.forEach((place) => { draw(place); watch.observe(place); });

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
    const typed = filter.querySelector("input"), chosen = filter.querySelector("select"), shown = filter.querySelector("output");
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
    places.forEach((place) => { if (place.clientWidth) draw(place, place.parentElement.classList.contains("wide") ? 640 : 310); });
  });
  addEventListener("afterprint", () => {
    closed.splice(0).forEach((details) => { details.open = false; });
    places.forEach((place) => draw(place));
  });
})();
