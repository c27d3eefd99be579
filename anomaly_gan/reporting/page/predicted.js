"use strict";
// Everything here reads the page and the JSON in it; the address after # is the whole state, marks and all.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const all = (selector, under = document) => [...under.querySelectorAll(selector)];
  const list = document.querySelector(".cards");
  const cards = all(".card");
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children); // text is only ever set as text
    return element;
  };

  // --- state: show, sort, where, theme, open, and the marks: good=1.5.7 and defective=0 ---
  const MARKS = ["good", "defective"];
  const read = () => new URLSearchParams(location.hash.slice(1));
  const write = (state) => {
    const text = state.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
    apply();
  };
  const set = (key, value) => {
    const state = read();
    value ? state.set(key, value) : state.delete(key);
    write(state);
  };
  const marked = (state, mark) => new Set((state.get(mark) ?? "").split(".").filter((id) => data[id]));
  const markOf = (state, id) => MARKS.find((mark) => marked(state, mark).has(id)) ?? "";
  const visible = () => all(".card", list).filter((card) => !card.hidden);

  function apply() {
    const state = read();
    const theme = state.get("theme");
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    root.dataset.where = state.get("where") ?? "on";
    const show = state.get("show") ?? "";
    let marks = 0;
    for (const card of cards) {
      const mark = markOf(state, card.dataset.id);
      marks += mark !== "";
      card.hidden = show === "marked" ? !mark : show !== "" && data[card.dataset.id].decision !== show;
      for (const button of all(".mark", card)) button.setAttribute("aria-pressed", button.value === mark);
    }
    const name = (card) => data[card.dataset.id].file;
    const order = state.get("sort") === "name"
      ? (a, b) => name(a).localeCompare(name(b), "en", { numeric: true })
      : (a, b) => a.dataset.id - b.dataset.id; // as it was written: the highest scores first
    const sorted = [...cards].sort(order);
    if (sorted.some((card, i) => card !== list.children[i])) list.append(...sorted); // what moves loses the focus
    for (const chip of all(".chip")) chip.setAttribute("aria-pressed", (state.get(chip.dataset.key) ?? "") === chip.value);
    const shown = visible().length;
    root.dataset.shown = shown;
    if (!list) return;
    byId("count").textContent = shown === cards.length ? `${shown} pictures` : `${shown} of ${cards.length} pictures`;
    byId("none").hidden = shown > 0;
    const save = byId("save-marks");
    save.hidden = !marks;
    save.textContent = `save my ${marks} mark${marks === 1 ? "" : "s"} (labels.csv)`;
    if (data[state.get("open")]) open(state.get("open"));
    else if (opened.open) opened.close();
  }

  for (const chip of all(".chip"))
    chip.addEventListener("click", () => {
      const pressed = chip.getAttribute("aria-pressed") === "true";
      set(chip.dataset.key, pressed ? "" : chip.value);
    });
  const mark = (id, value) => {
    const state = read();
    const before = markOf(state, id);
    for (const kind of MARKS) {
      const ids = marked(state, kind);
      ids.delete(id);
      if (kind === value && before !== value) ids.add(id);
      ids.size ? state.set(kind, [...ids].join(".")) : state.delete(kind);
    }
    write(state);
  };
  list?.addEventListener("click", (event) => {
    const id = event.target.closest(".card")?.dataset.id;
    const button = event.target.closest(".mark");
    if (button) mark(id, button.value);
    else if (event.target.closest(".look")) set("open", id);
  });
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    set("theme", dark ? "light" : "dark");
  });
  window.addEventListener("hashchange", apply);

  // --- a picture, opened in its own resolution ---
  const opened = byId("opened");
  const figure = (value) => (value == null ? "—" : String(Number(value.toPrecision(6))));
  function open(id) {
    const card = cards[id], whole = opened.querySelector(".whole");
    byId("opened-name").textContent = data[id].file;
    const frame = card.querySelector(".frame, .gone").cloneNode(true);
    const picture = byId(`picture-${id}`);
    if (picture) {
      const { width, height } = data[id];
      frame.querySelector("img").src = `data:image/webp;base64,${picture.textContent}`;
      frame.style.width = `min(100%, ${(72 * width) / height}vh, ${Math.max(4 * width, 256)}px)`;
    }
    whole.classList.remove("own");
    whole.replaceChildren(frame);
    const said = card.querySelector(".said").cloneNode(true);
    said.querySelector(".name").remove();
    const why = byId(`why-${id}`);
    const explanation = why ? [make("img", { class: "figure", alt: "what the score comes from", src: `data:image/webp;base64,${why.textContent}` })] : [];
    const values = Object.entries({ p_value: data[id].p_value, adjusted_p_value: data[id].adjusted_p_value, ...data[id].scores });
    const rows = values.filter(([, value]) => value !== null).map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, figure(value))));
    opened.querySelector(".beside").replaceChildren(
      said,
      ...(!card.querySelector(".layer") ? explanation : []),
      make("details", {}, make("summary", {}, "Inner parts of the score"),
        ...(card.querySelector(".layer") ? explanation : []),
        make("div", { class: "columns config" }, make("table", {}, make("tbody", {}, ...rows)))));
    if (!opened.open) opened.showModal();
  }
  const step = (by) => {
    const there = visible(), at = there.findIndex((card) => card.dataset.id === read().get("open"));
    const next = there[at + by];
    if (next) set("open", next.dataset.id);
  };
  opened.addEventListener("close", () => set("open", ""));
  opened.addEventListener("click", (event) => event.target === opened && opened.close());
  opened.querySelector(".whole").addEventListener("click", ({ currentTarget: whole }) => {
    const image = whole.querySelector(".frame img");
    if (image) whole.style.setProperty("--own", `${image.naturalWidth}px`);
    whole.classList.toggle("own");
  });
  byId("before").addEventListener("click", () => step(-1));
  byId("after").addEventListener("click", () => step(1));
  opened.addEventListener("keydown", ({ key }) => step({ ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0));

  // --- files to take away ---
  const cell = (value) => (/[",\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const save = (name, rows) => {
    const text = rows.map((row) => row.map((value) => cell(String(value ?? ""))).join(",") + "\n").join("");
    const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  byId("save")?.addEventListener("click", () => {
    const state = read();
    const rows = visible().map(({ dataset: { id } }) => [data[id].file, data[id].score, data[id].p_value, data[id].decision, markOf(state, id)]);
    save("shown.csv", [["file", "score", "p_value", "looks", "marked"], ...rows]);
  });
  byId("save-marks")?.addEventListener("click", () => {
    const state = read();
    const rows = cards.map(({ dataset: { id } }) => [data[id].file, markOf(state, id)]).filter(([, label]) => label);
    save("labels.csv", [["image", "label"], ...rows]);
  });

  apply();
  root.dataset.ready = "yes";
})();
