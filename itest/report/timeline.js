// The timeline: services above, below them what each process of the run did; drawn anew for each view of it.

const timeline = (() => {
  const AXIS = 24, LANE = 28, GAP = 6, LEAST = 0.0005;
  let view = [0, length], items = [], width = 0, drag = null, pointer = null, frame = 0;
  const esc = (text) => String(text).replace(/[&<>"]/g, (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[char]);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const chart = h("div", { class: "chart", tabindex: 0, role: "img", "aria-label":
    `Timeline of ${time(length)} with ${many(services.length, "service")} and ${many(tests.length, "test")}; plus and minus zoom, arrows move` }, svg);
  const narrow = () => width < 640;
  const gutter = () => (narrow() ? 0 : 112);
  const x = (seconds) => gutter() + ((seconds - view[0]) / (view[1] - view[0])) * (width - gutter());
  const at = (pixel) => view[0] + ((pixel - gutter()) / (width - gutter())) * (view[1] - view[0]);
  const redraw = () => { frame ||= requestAnimationFrame(() => { frame = 0; draw(); }); };

  function box(kind, [from, to], y, height, tip, more = {}) {
    const left = Math.max(x(from), gutter()), right = Math.min(x(to), width);
    const least = more.least || 0;
    if (right < gutter() || left > width || (right - left < 0.05 && !least)) return "";
    const wide = Math.max(right - left, least);
    const index = items.push(tip) - 1;
    const round = Math.min(2.5, wide / 2);
    return `<rect class="${kind}" x="${left.toFixed(2)}" y="${y}" width="${wide.toFixed(2)}" height="${height}" rx="${round.toFixed(1)}"`
      + `${more.fill ? ` fill="${more.fill}"` : ""}${more.test != null ? ` data-test="${more.test}"` : ""} data-i="${index}"/>`;
  }

  function ticks(height) {
    const span = view[1] - view[0], wanted = Math.max(2, (width - gutter()) / 90);
    const rough = span / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    let out = "";
    for (let number = Math.ceil(view[0] / step); number * step <= view[1] + step / 1e6; number += 1) {
      const left = x(number * step).toFixed(1);
      const label = step < 0.001 ? `${(number * step * 1e3).toFixed(1)} ms` : step < 1 && view[1] < 1 ? `${Math.round(number * step * 1e3)} ms`
        : `${+(number * step).toFixed(Math.max(0, Math.ceil(-Math.log10(step))))} s`;
      const anchor = left > width - 34 ? "end" : left < gutter() + 12 ? "start" : "middle";
      out += `<line class="grid" x1="${left}" x2="${left}" y1="${AXIS - 4}" y2="${height}"/><text class="tick" x="${left}" y="14" text-anchor="${anchor}">${label}</text>`;
    }
    return out;
  }

  function lane(label, y, height, colour) {
    const text = esc(label.length > 15 ? `${label.slice(0, 14)}…` : label);
    if (narrow()) return `<text x="8" y="${y - 3}" style="font-size:11px">${colour ? `<tspan fill="${colour}">●</tspan> ` : ""}${text}</text>`;
    return `<text x="12" y="${y + height / 2 + 4}">${colour ? `<tspan fill="${colour}">●</tspan> ` : ""}${text}</text>`;
  }

  function service(each, y) {
    const name = `<b>${esc(each.version || each.title)}</b>`;
    let out = "";
    for (const one of each.all) {
      const until = one.stop ? one.stop[0] : one.end;
      if (!each.failed) out += box("up", [one.start[1], until], y + LANE / 2 - 3, 6, `${name}<br>up for ${time(until - one.start[1])}`, { fill: each.hue });
      out += box(each.failed ? "failed" : "start", one.start, y + 3, LANE - 6, `${name}<br>start ${time(one.start[1] - one.start[0])}${each.failed ? ", failed" : ""}`, { least: 1.5 });
      for (const part of one.parts) out += box("part", part.at, y + 3, LANE - 6, `${name}<br>${esc(part.name)} ${time(part.at[1] - part.at[0])} <span>of ${time(one.start[1] - one.start[0])} to start</span>`);
      if (one.stop) out += box("start", one.stop, y + 6, LANE - 12, `${name}<br>stop ${time(one.stop[1] - one.stop[0])}`, { least: 1.5 });
    }
    for (const step of steps) {
      if (step.name === "migrate" && step.server === each.id) out += box("migrate", step.at, y + 3, LANE - 6, `<b>migrations</b> <span>of ${esc(short(step.owner))}</span><br>${time(step.seconds)}`, { least: 1.5 });
    }
    return out + thin(each.resets, (step, count, seconds) => box("reset", step.at, y + 8, LANE - 16,
      count > 1 ? `<b>${count} resets</b><br>${time(seconds)} together` : `<b>reset</b> <span>for ${esc(short(step.owner))}</span><br>${time(step.seconds)}`, { least: 1 }));
  }

  // What falls on one pixel is drawn once: a run of many thousand tests must not become as many elements.
  function thin(list, make) {
    let out = "", last = -1, first = null, count = 0, seconds = 0;
    const flush = () => { if (first) out += make(first, count, seconds); first = null; count = 0; seconds = 0; };
    for (const each of list) {
      const left = Math.floor(x(each.at[0])), right = x(each.at[1]);
      if (right < gutter() || left > width) continue;
      if (left !== last || right - left > 2) { flush(); first = each; last = left; }
      count += 1; seconds += each.seconds;
      if (right - left > 2) last = -1;
    }
    flush();
    return out;
  }

  function worker(each, y) {
    let out = "";
    for (const group of each.classes.values()) {
      out += box("class", group.at, y, 17, `<b>${esc(group.name)}</b><br>${many(group.tests, "test")}, ${time(group.at[1] - group.at[0])}`);
      for (const setup of group.setups) out += box("setup", setup, y, 17, `<b>${esc(group.name)}</b><br>set-up ${time(setup[1] - setup[0])}, servers waited for included`);
      const left = Math.max(x(group.at[0]), gutter()), room = Math.min(x(group.at[1]), width) - left - 10;
      const name = group.name.split(".").at(-1);
      if (room > 26) {
        const fits = Math.floor(room / 6.2);
        out += `<text class="band" x="${left + 5}" y="${y + 12.5}">${esc(name.length > fits ? `${name.slice(0, Math.max(1, fits - 1))}…` : name)}</text>`;
      }
    }
    const tip = (test) => `<b>${esc(test.name)}</b><br>${esc(test.outcome)}, ${time(test.seconds)}<br><span>${esc(short(test.class))}</span>`;
    out += thin(each.tests.filter((test) => !isBad(test)), (test, count, seconds) => box(wordOf(test.outcome), test.at, y + 20, LANE,
      count > 1 ? `<b>${count} tests</b><br>${time(seconds)} together` : tip(test), { least: 1, test: count > 1 ? null : test.number }));
    for (const test of each.tests.filter(isBad)) {
      const mark = box(wordOf(test.outcome), test.at, y + 20, LANE, tip(test), { least: 3, test: test.number });
      if (!mark) continue;
      const middle = (Math.max(x(test.at[0]), gutter()) + Math.min(Math.max(x(test.at[1]), x(test.at[0]) + 3), width)) / 2;
      out += `${mark}<path class="flag" d="M${(middle - 5).toFixed(1)} ${y + 20 + LANE + 9}l5 -7l5 7z"/>`;
    }
    if (picked && each.tests.includes(picked) && picked.at[1] >= view[0] && picked.at[0] <= view[1]) {
      const left = Math.max(x(picked.at[0]) - 2, gutter());
      out += `<rect class="picked" x="${left}" y="${y + 18}" width="${Math.max(5, Math.min(x(picked.at[1]), width) - left + 2)}" height="${LANE + 4}" rx="3"/>`;
    }
    return out;
  }

  function draw() {
    width = chart.clientWidth;
    if (!width) return;
    items = [];
    const head = narrow() ? 15 : 0;
    let y = AXIS + 4, body = "";
    for (const each of services) {
      y += head;
      body += (narrow() ? "" : `<rect class="lane" x="${gutter()}" y="${y}" width="${width - gutter()}" height="${LANE}" rx="3"/>`) + service(each, y) + lane(each.label, y, LANE, each.hue);
      y += LANE + GAP;
    }
    if (services.length) y += 6;
    for (const each of workers) {
      if (!each.tests.length && !each.classes.size) continue;
      y += head;
      body += lane(each.name, y + (narrow() ? 0 : 20), LANE) + worker(each, y);
      y += 20 + LANE + 12 + GAP;
    }
    const height = Math.max(y + 2, 70);
    const clip = `<clipPath id="inside"><rect x="${gutter()}" y="0" width="${width - gutter()}" height="${height}"/></clipPath>`;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    const range = drag && drag.moved ? `<rect class="range" x="${Math.min(drag.from, drag.to)}" y="0" width="${Math.abs(drag.to - drag.from)}" height="${height}"/>` : "";
    const cursor = pointer > gutter() ? `<line class="cursor" x1="${pointer}" x2="${pointer}" y1="${AXIS - 4}" y2="${height}"/>` : "";
    svg.innerHTML = `${clip}${ticks(height)}${body}${range}${cursor}`;
  }

  function look(from, to) {
    const span = Math.min(length * 1.02, Math.max(LEAST, to - from));
    const start = Math.min(Math.max(-length * 0.01, from), length * 1.01 - span);
    view = [start, start + span];
    redraw();
  }
  const fit = () => look(-length * 0.01, length * 1.01);
  function zoom(factor, middle = (view[0] + view[1]) / 2) {
    look(middle - (middle - view[0]) * factor, middle + (view[1] - middle) * factor);
  }
  const move = (share) => look(view[0] + (view[1] - view[0]) * share, view[1] + (view[1] - view[0]) * share);
  function show([from, to]) { // Bring it into view without losing where one is.
    if (from < view[0] || to > view[1]) {
      const span = Math.max(view[1] - view[0], (to - from) * 1.2);
      look((from + to) / 2 - span / 2, (from + to) / 2 + span / 2);
    } else redraw();
  }

  const pixel = (event) => event.clientX - svg.getBoundingClientRect().left;
  function hover(event) {
    const found = event.target.closest?.("[data-i]");
    const tip = by("tip");
    tip.hidden = !found || (drag && drag.moved);
    if (!tip.hidden) {
      tip.innerHTML = items[found.dataset.i];
      const { width: wide, height: high } = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - wide - 6))}px`;
      tip.style.top = `${event.clientY + 18 + high > innerHeight ? event.clientY - high - 10 : event.clientY + 18}px`;
    }
  }
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.pointerType === "touch") return;
    drag = { from: pixel(event), to: pixel(event), moved: false };
  });
  addEventListener("pointermove", (event) => {
    if (!drag && !svg.contains(event.target)) { by("tip").hidden = true; if (pointer !== null) { pointer = null; redraw(); } return; }
    pointer = pixel(event);
    if (drag) { drag.to = Math.max(gutter(), pointer); drag.moved ||= Math.abs(drag.to - drag.from) > 5; }
    hover(event);
    redraw();
  });
  addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    if (done && done.moved) look(at(Math.min(done.from, done.to)), at(Math.max(done.from, done.to)));
  });
  svg.addEventListener("click", (event) => {
    const number = event.target.dataset?.test;
    if (number != null) pick(tests[number]);
  });
  svg.addEventListener("dblclick", fit);
  chart.addEventListener("wheel", (event) => {
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(event.deltaX / (width - gutter()));
    else if (event.ctrlKey || event.metaKey || document.activeElement === chart) zoom(Math.exp(event.deltaY / 300), at(pixel(event)));
    else return;
    event.preventDefault();
  }, { passive: false });
  new ResizeObserver(redraw).observe(chart);

  function mount() {
    if (!services.length && !tests.length) return;
    const button = (label, title, run) => h("button", { title, "aria-label": title, onclick: run }, label);
    const key = (colour, text) => h("span", {}, h("i", { style: `background: ${colour}` }), text);
    by("timeline").replaceChildren(
      h("div", { class: "bar" }, h("h2", {}, "Timeline"), h("span", { class: "soft hint" }, "drag to zoom in, double-click to see all"),
        h("span", {}, button("−", "zoom out", () => zoom(1.6)), " ", button("+", "zoom in", () => zoom(0.6)), " ", button("all", "see all", fit), " ",
          button("?", "keys", () => by("keys").showModal()))),
      chart,
      h("div", { class: "key" }, services.length ? key("var(--start)", "start, stop") : null, services.some((each) => each.resets.length) ? key("color-mix(in srgb, var(--ink) 38%, var(--card))", "reset") : null,
        steps.some((each) => each.name === "setup") ? key("var(--setup)", "class set-up") : null,
        ["passed", "failed", "skipped"].filter((word) => tests.some((test) => (word === "failed" ? isBad(test) : test.outcome === word))).map((word) => key(`var(--${word})`, word))));
    fit();
    draw();
  }
  return { mount, zoom, move, fit, show };
})();

// Keys.

function nextFailure(way) {
  if (!failures.length) return;
  const now = failures.indexOf(picked);
  pick(failures[(now + way + failures.length + (now < 0 && way < 0 ? 1 : 0)) % failures.length]);
}

const KEYS = [
  ["+ −", "zoom", { "+": () => timeline.zoom(0.6), "=": () => timeline.zoom(0.6), "-": () => timeline.zoom(1.6) }],
  ["← →", "move", { ArrowLeft: () => timeline.move(-0.25), ArrowRight: () => timeline.move(0.25) }],
  ["0", "see all", { 0: () => timeline.fit() }],
  ["n p", "next, previous failure", { n: () => nextFailure(1), p: () => nextFailure(-1) }],
  ["/", "filter tests", { "/": () => { by("filter")?.focus(); by("filter")?.scrollIntoView({ block: "center" }); } }],
  ["?", "this list", { "?": () => by("keys").showModal() }],
];
by("keys").append(h("h2", {}, "Keys"), h("dl", {}, KEYS.map(([keys, what]) => [h("dt", {}, keys.split(" ").map((key) => [h("kbd", {}, key), " "])), h("dd", {}, what)])));
by("keys").addEventListener("click", () => by("keys").close());
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input")) { if (event.key === "Escape") event.target.blur(); return; }
  if (event.key.startsWith("Arrow") && event.target.matches("pre")) return;
  const action = KEYS.map(([, , actions]) => actions[event.key]).find(Boolean);
  if (action) { event.preventDefault(); action(); }
});

drawHead();
timeline.mount();
drawFailures();
drawServices();
drawTests();
