"use strict";
// Everything shown is put there as text, never as markup: it is what tests and servers said.

const data = JSON.parse(document.getElementById("run").textContent);
const parts = data.parts.slice().sort((a, b) => a.began - b.began);
const zero = parts.length ? parts[0].began : 0;
const BAD = ["failed", "error", "unexpected success"];
const HUES = ["#4a7dbf", "#8a6cc4", "#2f95a3", "#b08a36", "#b8609a", "#6b7a90", "#5c74d6", "#8a8f3c"];

function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}
const by = (id) => document.getElementById(id);
const many = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
const sum = (list) => list.reduce((total, each) => total + each, 0);
const wordOf = (outcome) => outcome.split(" ")[0];
const isBad = (test) => BAD.includes(test.outcome);

function time(seconds) {
  if (seconds >= 90) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds >= 10) return `${seconds.toFixed(1)} s`;
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  const ms = seconds * 1000;
  return `${ms >= 100 ? ms.toFixed(0) : ms >= 0.1 || !ms ? ms.toFixed(1) : ms.toFixed(2)} ms`;
}

// The model: all processes of the run on one clock that starts with the run.

const tests = [], services = [], steps = [], workers = [];
for (const [index, part] of parts.entries()) {
  const shift = part.began - zero;
  const moved = ([from, to]) => [from + shift, to + shift];
  workers.push({ name: part.worker || (parts.length > 1 ? `process ${part.pid}` : "tests"), tests: [], classes: new Map() });
  for (const test of part.tests) {
    tests.push({ ...test, at: moved(test.at), worker: index, seconds: test.at[1] - test.at[0], number: tests.length });
    workers[index].tests.push(tests.at(-1));
  }
  for (const [name, kind, from, to, owner, server] of part.steps) {
    steps.push({ name, kind, at: [from + shift, to + shift], seconds: to - from, owner, server, worker: index });
  }
  for (const service of part.services) {
    const one = { ...service, start: moved(service.start), stop: service.stop && moved(service.stop), end: part.seconds + shift };
    one.parts = service.parts.map(([name, ...at]) => ({ name, at: moved(at) }));
    const same = one.id && services.find((other) => other.id === one.id);
    if (!same) services.push({ ...one, all: [one], resets: [] });
    else { // Workers that share it; who started it knows most.
      const log = same.log.length >= one.log.length ? same.log : one.log;
      if (one.how !== "found" && same.how === "found") Object.assign(same, one, { all: same.all, resets: same.resets });
      same.all.push(one); same.log = log; same.end = Math.max(same.end, one.end);
    }
  }
}
for (const step of steps) {
  if (step.name === "reset") services.find((service) => service.id === step.server)?.resets.push(step);
}
services.sort((a, b) => a.start[0] - b.start[0]);
const kinds = [...new Set(services.map((service) => service.kind))];
for (const service of services) service.hue = HUES[kinds.indexOf(service.kind) % HUES.length];
for (const kind of kinds) { // Several of a kind are numbered.
  const alike = services.filter((service) => service.kind === kind);
  for (const [index, service] of alike.entries()) service.label = alike.length > 1 ? `${kind} ${index + 1}` : kind;
}
for (const [index, worker] of workers.entries()) {
  const add = (owner, [from, to], kind) => {
    if (!owner) return;
    const known = worker.classes.get(owner) || { name: owner, at: [from, to], setups: [], tests: 0 };
    known.at = [Math.min(known.at[0], from), Math.max(known.at[1], to)];
    if (kind === "setup") known.setups.push([from, to]); else known.tests += 1;
    worker.classes.set(owner, known);
  };
  for (const step of steps) if (step.worker === index && step.name === "setup") add(step.owner, step.at, "setup");
  for (const test of worker.tests) add(test.class, test.at, "test");
}
const length = Math.max(0.001, ...parts.map((part) => part.began - zero + part.seconds));
const failures = tests.filter(isBad);
const short = (name) => name.split(".").slice(-2).join(".");

// The head.

function drawHead() {
  const counts = new Map();
  for (const outcome of ["failed", "error", "unexpected success", "passed", "expected failure", "skipped", "not finished"]) {
    const number = tests.filter((test) => test.outcome === outcome).length;
    if (number) counts.set(outcome, number);
  }
  const title = !tests.length ? "No tests ran"
    : failures.length ? `${failures.length.toLocaleString("en")} of ${many(tests.length, "test")} failed`
    : counts.get("passed") === tests.length ? (tests.length === 1 ? "The test passed" : `All ${many(tests.length, "test")} passed`)
    : counts.get("passed") ? `${many(counts.get("passed"), "test")} passed, none failed` : "No test passed, none failed";
  document.title = `${title} – itest`;
  const first = parts[0] || {};
  const began = new Date(zero * 1000);
  const when = parts.length ? began.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : "";
  const resets = steps.filter((step) => step.name === "reset");
  const sorted = resets.map((step) => step.seconds).sort((a, b) => a - b);
  const fresh = services.filter((service) => service.how !== "found");
  let started = 0, reached = 0; // Side by side counts once.
  for (const [from, to] of fresh.map((service) => service.start)) {
    started += Math.max(0, to - Math.max(from, reached));
    reached = Math.max(reached, to);
  }
  const migrations = steps.filter((step) => step.name === "migrate");
  const savings = parts.flatMap((part) => part.savings);
  const known = savings.filter((saving) => saving.cold !== null);
  const facts = [[time(length), parts.length > 1 ? `the run, in ${parts.length} processes` : "the run"]];
  if (tests.length) facts.push([time(sum(tests.map((test) => test.seconds))), "in tests"]);
  if (fresh.length) facts.push([time(started), `to start ${many(fresh.length, "server")}${fresh.length > 1 ? ", side by side" : ""}`]);
  if (migrations.length) facts.push([time(sum(migrations.map((step) => step.seconds))), "in migrations"]);
  if (sorted.length) facts.push([time(sorted[sorted.length >> 1]), `median of ${many(sorted.length, "reset")}`]);
  if (known.length) facts.push([time(Math.max(0, sum(known.map((saving) => saving.cold - saving.took)))), "saved by kept states"]);
  else if (savings.length) facts.push(["not known", "what kept states have saved: not measured when they were kept"]);
  by("head").replaceChildren(
    h("div", { class: "meta" }, h("b", {}, "itest"), ` · ${[when, parts.map((part) => part.command).find(Boolean), first.python && `Python ${first.python}`].filter(Boolean).join(" · ")}`),
    h("h1", {}, title),
    tests.length ? h("div", { class: "strip", role: "img", "aria-label": [...counts].map(([outcome, number]) => `${number} ${outcome}`).join(", ") },
      [...counts].map(([outcome, number]) => h("i", { class: wordOf(outcome), style: `flex: ${number}` }))) : null,
    h("div", { class: "legend" }, [...counts].map(([outcome, number]) => h("button",
      { "aria-pressed": "false", "data-outcome": outcome, title: `show only these`, onclick: () => toggle(outcome) },
      h("span", { class: `dot ${wordOf(outcome)}` }), `${number.toLocaleString("en")} ${outcome}`))),
    h("div", { class: "facts" }, facts.map(([value, what]) => h("div", {}, h("b", {}, value), h("span", {}, what)))),
  );
}

// Texts: tracebacks and logs, by line.

function written(text, kind) {
  const pre = h("pre", { tabindex: 0, "aria-label": kind });
  let within = false; // A traceback, whose end is its first line that is not indented.
  for (const line of text.split("\n")) {
    const at = /^\s+File ".*", line \d+/.test(line), says = within && /^[A-Za-z_][\w.]*(: |$)/.test(line);
    const which = at ? "at" : /^ *\| /.test(line) ? "log" : says ? "says" : "";
    within = at || (within && !says);
    pre.append(which ? h("span", { class: which }, line) : line, "\n");
  }
  return pre;
}

function reasonOf(pre, text) {
  const said = pre ? [...pre.querySelectorAll(".says")] : [];
  return said.length ? said.at(-1).textContent : text.trim().split("\n").at(-1);
}

function framed(pre, text) {
  const copy = h("button", { onclick: async () => {
    await navigator.clipboard?.writeText(text); copy.textContent = "copied"; setTimeout(() => { copy.textContent = "copy"; }, 1200);
  } }, "copy");
  const long = text.split("\n").length > 24;
  const whole = long && h("button", { onclick: () => { whole.textContent = pre.classList.toggle("whole") ? "show less" : "show all"; } }, "show all");
  return h("div", { class: "text" }, pre, h("div", { class: "tools" }, whole, copy));
}

function drawFailures() {
  if (!failures.length) return;
  by("failures").replaceChildren(h("div", { class: "bar" }, h("h2", {}, failures.length === 1 ? "Failure" : "Failures", h("small", {}, String(failures.length)))),
    ...failures.map((test, index) => {
      const pre = test.text && written(test.text, `Why ${test.name} failed`);
      return h("details", { class: "failure", id: `failure-${test.number}`, open: index < 3 },
        h("summary", {}, h("span", { class: `dot ${wordOf(test.outcome)}` }),
          h("span", { class: "name" }, h("b", {}, test.name), h("span", { class: "soft" }, ` ${short(test.class)}${test.outcome === "failed" ? "" : ` · ${test.outcome}`}`),
            h("span", { class: "why" }, reasonOf(pre, test.text))),
          h("span", { class: "time" }, time(test.seconds))),
        pre ? framed(pre, test.text) : h("pre", {}, test.outcome));
    }));
}

// Services.

const HOW = { new: "started anew", kept: "began with a kept state", found: "was running already" };

function drawServices() {
  if (!services.length) return;
  by("services").replaceChildren(h("div", { class: "bar" }, h("h2", {}, "Services", h("small", {}, String(services.length)))),
    h("div", { class: "cards" }, services.map((service) => {
      const lengths = service.resets.map((step) => step.seconds).sort((a, b) => a - b);
      const own = service.parts.map((part) => `${part.name} ${time(part.at[1] - part.at[0])}`).join(", ");
      const ours = parts.flatMap((part) => part.savings).find((saving) => saving.service === service.kind && service.how === "kept");
      const rows = [["start", `${time(service.start[1] - service.start[0])}${service.failed ? ", failed" : ""}${own ? ` (${own})` : ""}`]];
      if (service.how === "kept") rows.push(["saved", !ours || ours.cold === null ? "not known: not measured when its state was kept"
        : `${time(Math.max(0, ours.cold - ours.took))}: without the kept state it took ${time(ours.cold)}`]);
      if (lengths.length) rows.push(["resets", `${lengths.length.toLocaleString("en")}, median ${time(lengths[lengths.length >> 1])}, longest ${time(lengths.at(-1))}`]);
      if (service.stop) rows.push(["stop", time(service.stop[1] - service.stop[0])]);
      if (service.all.length > 1) rows.push(["used by", many(service.all.length, "process").replace("processs", "processes")]);
      const log = service.log.trimEnd();
      const pre = log && h("pre", { tabindex: 0, "aria-label": `Log of ${service.label}` }, log);
      return h("div", { class: "card" },
        h("div", { class: "body" },
          h("h3", {}, h("span", { class: `dot ${service.failed ? "failed" : ""}`, style: service.failed ? "" : `background: ${service.hue}` }), service.version || service.title || service.kind),
          h("div", { class: "meta" }, [service.where, service.failed ? "could not be started" : HOW[service.how]].filter(Boolean).join(" · ")),
          h("dl", {}, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
        log && h("details", {}, h("summary", {}, "log", h("span", { class: "time" }, many(log.split("\n").length, "line"))), framed(pre, log)));
    })));
}

// Tests.

const chosen = new Set();

function toggle(outcome) {
  if (!chosen.delete(outcome)) chosen.add(outcome);
  for (const button of document.querySelectorAll("[data-outcome]")) button.setAttribute("aria-pressed", String(chosen.has(button.dataset.outcome)));
  drawTests();
}

function drawTests() {
  const section = by("tests");
  if (!tests.length) {
    section.replaceChildren(h("div", { class: "empty" }, "No test ran."));
    return;
  }
  const words = (by("filter")?.value || "").toLowerCase().split(/\s+/).filter(Boolean);
  const shown = tests.filter((test) => (!chosen.size || chosen.has(test.outcome))
    && words.every((word) => `${test.class}.${test.name} ${test.outcome}`.toLowerCase().includes(word)));
  const longest = Math.max(...tests.map((test) => test.seconds), 0.001);
  const groups = Map.groupBy ? Map.groupBy(shown, (test) => test.class) : shown.reduce((map, test) => map.set(test.class, [...(map.get(test.class) || []), test]), new Map());
  const some = words.length || chosen.size;
  const list = h("div", {}, [...groups].map(([name, members]) => {
    const bad = members.filter(isBad).length;
    const fill = (group) => { if (group.open && group.children.length === 1) group.append(...members.map((test) => row(test, longest))); };
    const group = h("details", { class: "group", "data-class": name, open: some || shown.length <= 60 || (bad > 0 && groups.size < 60), ontoggle: () => fill(group) },
      h("summary", {}, h("span", { class: `dot ${bad ? "failed" : members.every((test) => test.outcome === "skipped") ? "skipped" : "passed"}` }),
        h("span", { class: "name" }, short(name) || "(no class)", h("span", { class: "soft" }, ` ${many(members.length, "test")}${bad ? `, ${bad} failed` : ""}`)),
        h("span", { class: "time" }, time(sum(members.map((test) => test.seconds))))));
    fill(group);
    return group;
  }));
  if (!by("filter")) {
    section.replaceChildren(h("div", { class: "bar" }, h("h2", {}, "Tests", h("small", { id: "shown" })),
      h("input", { id: "filter", type: "search", placeholder: "filter by name  ( / )", "aria-label": "Filter tests by name", oninput: drawTests })), h("div", { id: "list" }));
  }
  by("shown").textContent = some ? `${shown.length} of ${tests.length}` : String(tests.length);
  by("list").replaceChildren(shown.length ? list : h("div", { class: "empty" }, "No test is like that."));
}

function row(test, longest) {
  const reason = test.outcome === "skipped" ? test.text : BAD.includes(test.outcome) ? "" : test.outcome === "passed" ? "" : test.outcome;
  return h("div", { class: `row ${wordOf(test.outcome)}`, id: `test-${test.number}`, tabindex: 0, onclick: () => pick(test, false),
    onkeydown: (event) => { if (event.key === "Enter") pick(test, false); } },
    h("span", { class: `dot ${wordOf(test.outcome)}`, title: test.outcome, role: "img", "aria-label": test.outcome }),
    h("span", { class: "name" }, test.name, reason ? h("small", {}, reason) : null),
    h("span", { class: "length" }, h("i", { style: `width: ${Math.max(1, (test.seconds / longest) * 100)}%` })),
    h("span", { class: "time" }, time(test.seconds)));
}

let picked = null;

function pick(test, move = true) {
  picked = test;
  document.querySelector(".row.picked")?.classList.remove("picked");
  const failure = by(`failure-${test.number}`);
  if (!move && failure && !document.activeElement?.closest(".row")) move = true;
  if (!by(`test-${test.number}`) && by("list")) {
    const group = document.querySelector(`[data-class="${CSS.escape(test.class)}"]`);
    if (group) { group.open = true; group.dispatchEvent(new Event("toggle")); }
  }
  by(`test-${test.number}`)?.classList.add("picked");
  if (move && failure) { failure.open = true; failure.scrollIntoView({ block: "start", behavior: "smooth" }); }
  else if (move) by(`test-${test.number}`)?.scrollIntoView({ block: "nearest", behavior: "smooth" });
  timeline.show(test.at);
}
