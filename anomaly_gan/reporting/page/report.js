"use strict";
// Everything here reads the page and the JSON in it; the address after # is the whole state.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const all = (selector, under = document) => [...under.querySelectorAll(selector)];
  const KEYS = ["dataset", "class", "method", "seed", "row"];
  const list = document.querySelector(".runs tbody");
  const runs = all("tr.run");

  // --- building elements: text is only ever set as text ---
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const svg = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };

  // --- state ---
  const read = () => new URLSearchParams(location.hash.slice(1));
  const write = (parameters) => {
    const text = parameters.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
    apply();
  };
  const matches = (element, state, keys) =>
    keys.every((key) => {
      const wanted = state.getAll(key);
      return !wanted.length || element.dataset[key] === undefined || wanted.includes(element.dataset[key]);
    });

  function apply() {
    const state = read();
    const theme = state.get("theme");
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    let shown = 0;
    for (const row of runs) {
      row.hidden = !matches(row, state, KEYS);
      shown += !row.hidden;
      if (row.nextElementSibling?.matches(".detail")) row.nextElementSibling.hidden = row.hidden;
    }
    for (const section of all("section.dataset")) {
      const here = matches(section, state, ["dataset"]);
      section.hidden = !here;
      if (!here) continue;
      for (const row of all(".results tbody:not(.published) tr:not(.raw)", section))
        row.classList.toggle("dim", !matches(row, state, ["method", "row"]));
      const classes = state.getAll("class");
      for (const cell of all("[data-class]", section))
        cell.classList.toggle("dim", classes.length > 0 && !classes.includes(cell.dataset.class));
    }
    for (const filter of all(".filter")) {
      const wanted = state.getAll(filter.dataset.key);
      for (const chip of all(".chip", filter)) chip.setAttribute("aria-pressed", wanted.includes(chip.value));
      const select = filter.querySelector("select");
      if (select) select.value = wanted[0] ?? "";
    }
    const chip = document.getElementById("row-filter");
    chip.hidden = !state.has("row");
    chip.textContent = `only ${state.get("row")} ×`;
    const filtered = KEYS.some((key) => state.has(key));
    document.getElementById("reset").hidden = !filtered;
    document.getElementById("count").textContent = `${shown} of ${runs.length} runs`;
    document.getElementById("none").hidden = shown > 0;
    document.querySelector(".runs").hidden = shown === 0;
    root.dataset.shown = shown;
    if (state.has("run")) {
      const row = document.getElementById(`run-${state.get("run")}`);
      if (row) open(row, true);
    }
  }

  for (const filter of all(".filter")) {
    const key = filter.dataset.key;
    filter.addEventListener("click", (event) => {
      const chip = event.target.closest(".chip");
      if (!chip) return;
      const state = read();
      const wanted = state.getAll(key);
      state.delete(key);
      const next = wanted.includes(chip.value) ? wanted.filter((v) => v !== chip.value) : [...wanted, chip.value];
      next.forEach((value) => state.append(key, value));
      write(state);
    });
    filter.querySelector("select")?.addEventListener("change", (event) => {
      const state = read();
      state.delete(key);
      if (event.target.value) state.set(key, event.target.value);
      write(state);
    });
  }
  const without = (...keys) => () => {
    const state = read();
    keys.forEach((key) => state.delete(key));
    write(state);
  };
  document.getElementById("row-filter").addEventListener("click", without("row"));
  document.getElementById("reset").addEventListener("click", without(...KEYS, "run"));
  document.getElementById("reset-too").addEventListener("click", without(...KEYS, "run"));
  // A cell of a table leads to its runs; the way back is the browser's.
  for (const link of all(".results a"))
    link.addEventListener("click", () => setTimeout(() => {
      document.getElementById("runs").scrollIntoView({ block: "start" });
    }));
  window.addEventListener("hashchange", apply);
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    const state = read();
    state.set("theme", dark ? "light" : "dark");
    write(state);
  });

  // --- sorting ---
  const number = (text) => (text !== "" && !isNaN(text) ? Number(text) : null);
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  };
  for (const button of all("th .sort"))
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const column = head.cellIndex;
      const table = head.closest("table");
      const first = column === 0 || (head.closest(".runs") && column < 4) ? "ascending" : "descending";
      const before = head.getAttribute("aria-sort");
      const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
      all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.matches(".detail, .heading, .raw"));
        const compare = (a, b) => {
          const [x, y] = [key(a, column), key(b, column)];
          const [n, m] = [number(x), number(y)];
          return sign * (n !== null && m !== null ? n - m : x.localeCompare(y, "en", { numeric: true }));
        };
        const last = body.querySelector("tr.raw");
        for (const row of rows.sort(compare)) {
          const detail = row.nextElementSibling?.matches(".detail") ? row.nextElementSibling : null;
          body.insertBefore(row, last);
          if (detail) body.insertBefore(detail, last);
        }
      }
    });

  // --- charts ---
  const ticks = (low, high, count) => {
    const raw = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const found = [];
    for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-6; t += step) found.push(Number(t.toPrecision(6)));
    return found;
  };
  const short = (value) => (Math.abs(value) >= 10000 ? `${value / 1000}k` : String(value));
  function frame({ width, height, x, y, label, xLabel, yLabel, yTicks = true }) {
    const left = yTicks ? 34 : 6, bottom = xLabel ? 30 : 16, top = 6, right = 8;
    const px = (v) => left + ((v - x[0]) / (x[1] - x[0] || 1)) * (width - left - right);
    const py = (v) => height - bottom - ((v - y[0]) / (y[1] - y[0] || 1)) * (height - bottom - top);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
    for (const t of ticks(...x, width / 70))
      picture.append(svg("text", { x: px(t), y: height - bottom + 12, "text-anchor": "middle" }, short(t)));
    if (yTicks)
      for (const t of ticks(...y, height / 45)) {
        picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: py(t), y2: py(t) }));
        picture.append(svg("text", { x: left - 5, y: py(t) + 3.5, "text-anchor": "end" }, short(t)));
      }
    picture.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: py(y[0]), y2: py(y[0]) }));
    if (xLabel)
      picture.append(svg("text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" }, xLabel));
    if (yLabel)
      picture.append(svg("text", { x: left, y: top + 3, "font-style": "italic" }, yLabel));
    return { picture, px, py };
  }
  const path = (points, px, py) => points.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
  const line = (points, at, colour, more = {}) =>
    svg("path", { class: "line", d: path(points, at.px, at.py), stroke: colour, ...more });
  const range = (values) => {
    const low = Math.min(...values), high = Math.max(...values);
    return low < high ? [low, high] : [low - 0.5, high + 0.5];
  };
  const chart = (title, picture, ...more) => make("figure", { class: "chart" }, make("h4", {}, title), picture, ...more);
  const legend = (entries) => make("ul", { class: "legend" }, ...entries.map(([name, colour, dash]) =>
    make("li", {}, svg("svg", { width: 16, height: 6 }, svg("line", { x1: 0, x2: 16, y1: 3, y2: 3, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash ?? "none" })), name)));

  function rocChart(run) {
    const at = frame({ width: 250, height: 250, x: [0, 1], y: [0, 1], label: `ROC curve, AUROC ${percent(run.auroc)} %`, xLabel: "normal images called anomalous" });
    at.picture.append(line([[0, 0], [1, 1]], at, "var(--faint)", { "stroke-dasharray": "3 3", "stroke-width": 1 }));
    at.picture.append(line(run.roc, at, "var(--normal)"));
    return chart("ROC: anomalous images found", at.picture);
  }
  function histogramChart(run) {
    const { range: [low, high], normal, anomalous } = run.histogram;
    const top = Math.max(...normal, ...anomalous);
    const at = frame({ width: 330, height: 250, x: [low, high], y: [0, top * 1.05], label: "How the scores of normal and of anomalous test images are spread", xLabel: "score, higher: more anomalous", yTicks: false });
    const width = (high - low) / normal.length;
    for (const [shares, colour] of [[normal, "var(--normal)"], [anomalous, "var(--anomalous)"]]) {
      const points = [[low, 0]];
      shares.forEach((share, i) => points.push([low + i * width, share], [low + (i + 1) * width, share]));
      points.push([high, 0]);
      at.picture.append(svg("path", { d: path(points, at.px, at.py), fill: colour, "fill-opacity": 0.22, stroke: colour, "stroke-width": 1.3 }));
    }
    const entries = [["normal", "var(--normal)"], ["anomalous", "var(--anomalous)"]];
    if (run.calibration && run.calibration.score === run.score) {
      const at_x = at.px(Math.min(high, Math.max(low, run.calibration.threshold)));
      at.picture.append(svg("line", { x1: at_x, x2: at_x, y1: at.py(0), y2: at.py(top), stroke: "var(--quiet)", "stroke-dasharray": "3 3" }));
      entries.push(["threshold", "var(--quiet)", "3 3"]);
    }
    return chart("Scores, share of each kind", at.picture, legend(entries));
  }
  function curveChart(run) {
    const names = [...new Set(run.curve.flatMap((point) => Object.keys(point.auroc)))];
    const series = names.map((name) => [name, run.curve.filter((p) => p.auroc[name] != null).map((p) => [p.iteration, 100 * p.auroc[name]])]).filter(([, points]) => points.length);
    if (!series.length) return null;
    const at = frame({ width: 330, height: 250, x: range(series.flatMap(([, p]) => p.map(([x]) => x))), y: range(series.flatMap(([, p]) => p.map(([, y]) => y))), label: "AUROC over the training", xLabel: "iteration" });
    const ink = ["var(--normal)", "var(--anomalous)", "var(--third)", "var(--quiet)"], dashes = ["none", "5 3", "2 2"];
    const entries = series.sort(([a], [b]) => (b === run.score) - (a === run.score)).map(([name, points], i) => {
      const colour = ink[i % 4], dash = dashes[Math.floor(i / 4) % 3];
      at.picture.append(line(points, at, colour, { "stroke-dasharray": dash }));
      for (const [x, y] of points) at.picture.append(svg("circle", { cx: at.px(x), cy: at.py(y), r: 2, fill: colour }));
      return [name, colour, dash];
    });
    return chart("AUROC on the way, %", at.picture, legend(entries));
  }
  const lossCharts = (run) => make("figure", { class: "chart" }, make("h4", {}, "Loss of each phase, over the iterations"),
    make("div", { class: "phases" }, ...Object.entries(run.losses).map(([phase, points]) => {
      const at = frame({ width: 168, height: 105, x: range(points.map(([x]) => x)), y: range(points.map(([, y]) => y)), label: `loss of ${phase}` });
      at.picture.append(line(points, at, "var(--normal)", { "stroke-width": 1.2 }));
      if (points.length === 1) at.picture.append(svg("circle", { cx: at.px(points[0][0]), cy: at.py(points[0][1]), r: 2, fill: "var(--normal)" }));
      return make("figure", {}, at.picture, make("figcaption", {}, phase.replaceAll("_", " ")));
    })));

  // --- a run, opened ---
  const percent = (value) => (value == null ? "—" : (100 * value).toFixed(1));
  const figure = (value) => (value == null ? "absent" : typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value));
  const rows = (title, entries, kind = "") => entries.length
    ? make("div", {}, make("h4", {}, title), make("table", { class: kind }, make("tbody", {}, ...entries.map(([name, value, mark]) =>
        make("tr", mark ? { class: mark } : {}, make("th", { scope: "row" }, name), make("td", {}, ...[value].flat()))))))
    : null;
  const withInterval = ([name, value, interval]) => [value == null ? "—" : percent(value), interval ? ` (${percent(interval[0])} to ${percent(interval[1])})` : ""].join("");

  const share = (value) => `${Number((100 * value).toPrecision(3))} %`;
  function decisions({ threshold, held_out, false_positive_rate, false_alarms, found }) {
    const entries = [["called anomalous: score above", figure(threshold)], ["false alarms, promised at most", share(false_positive_rate)], ["by so many held-out images", held_out]];
    if (false_alarms) {
      const expected = false_alarms.expected_interval;
      entries.push([`of ${false_alarms.tested} normal test images called anomalous`, share(false_alarms.rate) + (expected ? ` (95 % of such tests: ${share(expected[0])} to ${share(expected[1])})` : "")]);
    }
    if (found) entries.push([`of ${found.tested} anomalous test images found`, share(found.rate)]);
    return rows("Decisions", entries);
  }

  const heldOut = ([, ...images]) =>
    rows("Good ones, held out, with the highest scores: is one of them bad? (all: held_out.csv)",
      images.map(([name, , value]) => [name, `score\u00a0${figure(Number(value))}`]));

  function detail(run) {
    const scores = run.scores.map((entry) => [entry[0], withInterval(entry), entry[0] === run.score ? "ranks" : ""]);
    const common = data.common[run.config.common], own = run.config.own;
    const whole = Object.entries({ ...common, ...own }).filter(([name]) => !run.config.without.includes(name));
    const generator = Object.entries(run.generator.generated).map(([name, value]) => [name.replaceAll("_", " "), figure(value) + (run.generator.floor[name] != null ? ` (${figure(run.generator.floor[name])})` : "")]);
    const copy = make("button", { type: "button", class: "copy" }, "copy");
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(run.command);
        copy.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(copy.previousElementSibling);
        copy.textContent = "selected";
      }
      setTimeout(() => (copy.textContent = "copy"), 1500);
    });
    const pictures = run.pictures.map(([id, name]) => {
      const image = make("img", { class: "figure", alt: `${name}, ${run.title}`, src: `data:image/webp;base64,${document.getElementById(`picture-${id}`).textContent}` });
      const zoom = make("button", { type: "button", class: "zoom", "aria-label": `${name}: larger or smaller` }, image);
      const whole = make("figure", {}, zoom, make("figcaption", {}, name));
      zoom.addEventListener("click", () => whole.classList.toggle("wide"));
      return whole;
    });
    const charts = [run.roc.length ? rocChart(run) : null, run.histogram ? histogramChart(run) : null, run.curve.length > 1 ? curveChart(run) : null];
    const list = (entries) => entries.map(([name, value]) => [name, value]);
    // What the pictures look like first, then how well they are told apart, then how it was made.
    return make("div", {},
      run.notes.length ? make("div", {}, ...run.notes.map((note) => make("p", { class: "remarks" }, `Note: ${note}`))) : null,
      make("div", { class: "columns" },
        run.held_out.length ? heldOut(run.held_out) : null,
        run.calibration && (runs.length > 1 || run.calibration.false_alarms) ? decisions(run.calibration) : null, // else the head says it
        run.no_auroc ? null : rows("AUROC, % (95 % over test images)", scores),
        run.localisation ? rows(`Where, beside ${run.localisation.regions} regions of masks, %`, [["pixel AUROC", percent(run.localisation.pixel_auroc)], ["AUPRO", percent(run.localisation.aupro)]]) : null),
      charts.some(Boolean) ? make("div", { class: "charts" }, ...charts.filter(Boolean)) : null,
      !run.no_auroc && run.no_scores ? make("p", { class: "remarks" }, `No charts of the scores: ${run.no_scores}.`) : null,
      pictures.length ? make("div", { class: "pictures" }, ...pictures) : null,
      run.pictures_left_out ? make("p", { class: "remarks" }, `${run.pictures_left_out} pictures are in the run's folder, not on this page.`) : null,
      make("details", runs.length > 1 ? { open: "" } : {}, make("summary", {}, "Inner parts: command, losses, time, settings"),
        make("div", { class: "inner" },
          make("div", { class: "command" }, make("code", {}, run.command), copy),
          Object.keys(run.losses).length ? make("div", { class: "charts" }, lossCharts(run)) : null,
          make("div", { class: "columns" },
            run.no_auroc ? null : rows("Parts of the score, alone: AUROC, %", run.parts.map((entry) => [entry[0], withInterval(entry), entry[0] === run.score ? "ranks" : ""])),
            rows("Synthetic images (real test images)", generator),
            rows("Images and time", [...list(Object.entries(run.counts)), ...Object.entries(run.seconds).filter(([, value]) => value).map(([name, value]) => [`${name}, s`, figure(value)])])),
          make("div", { class: "columns config" },
            rows("Configuration, where it differs from what its row shares", Object.entries(own)),
            rows("Where and with what", [["result", run.path], ["score that ranks", run.score], ["machine", run.machine], ...Object.entries(run.versions)])),
          make("details", {}, make("summary", {}, `Whole configuration, ${whole.length} settings`), make("div", { class: "columns config" }, rows("", whole))))));
  }

  function open(row, only) {
    const button = row.querySelector(".open");
    const there = row.nextElementSibling?.matches(".detail") ? row.nextElementSibling : null;
    if (there) {
      if (only) return;
      there.remove();
      button.setAttribute("aria-expanded", "false");
      return;
    }
    const cell = make("td", { colspan: row.cells.length }, detail(data.runs[row.dataset.id]));
    const more = make("tr", { class: "detail" }, cell);
    more.hidden = row.hidden;
    row.after(more);
    button.setAttribute("aria-expanded", "true");
  }
  list.addEventListener("click", (event) => {
    const row = event.target.closest("tr.run");
    if (row && !getSelection().toString()) open(row, false);
  });

  apply();
  document.getElementById("only")?.append(detail(data.runs[0]));
  root.dataset.ready = "yes";
})();
