"use strict";
// Asks /status once a second and shows it. What is unknown is shown as unknown, never as 0; when the
// answers stop coming, the page says that what it shows is old.
const STAGES = ["received", "flushed", "memory", "persistence"];
const HINTS = { received: "in the journal's file", flushed: "fsynced in the journal", memory: "shown to readers of memory",
  persistence: "committed on the secondary" };
const SPAN_S = 600, LEAST_SPAN_S = 60, EVERY_MS = 1000, OLD_AFTER_S = 5;
const UNKNOWN = "unknown";
const $ = (id) => document.getElementById(id);

const theme = new URLSearchParams(location.search).get("theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;

let points = [];       // {at, lag: {stage: seconds or null}}
let last = 0, started = null, answeredAt = null, hover = null;

function el(tag, attributes = {}, ...inside) {
  const svg = ["svg", "line", "path", "text"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}
const put = (id, ...inside) => $(id).replaceChildren(...inside);
const text = (id, value) => { if ($(id).textContent !== value) $(id).textContent = value; };

function duration(s) {
  if (s === null || s === undefined) return UNKNOWN;
  if (s === 0) return "0 s";
  if (s < 0.0095) return (s * 1000).toFixed(1) + " ms";
  if (s < 0.9995) return Math.round(s * 1000) + " ms";
  if (s < 60) return s.toFixed(1) + " s";
  const whole = Math.round(s), m = Math.floor(whole / 60);
  if (m < 60) return `${m} min ${whole % 60} s`;
  if (m < 1440) return `${Math.floor(m / 60)} h ${m % 60} min`;
  return `${Math.floor(m / 1440)} d ${Math.floor(m / 60) % 24} h`;
}
function size(bytes) {
  if (bytes === null || bytes === undefined) return UNKNOWN;
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (Math.abs(value) < 1024) return (unit === "B" || value >= 100 ? Math.round(value) : value.toFixed(1)) + " " + unit;
    value /= 1024;
  }
  return value.toFixed(1) + " TB";
}
const count = (n) => n === null || n === undefined ? UNKNOWN : n.toLocaleString("en");
const clock = (s) => new Date(s * 1000).toLocaleTimeString("en-GB");
const tag = (word) => el("span", { class: "tag " + word }, word);

function rows(id, pairs) {
  put(id, ...pairs.flatMap(([name, value, bar]) => {
    const shown = el("dd", value === UNKNOWN ? { class: "none" } : {}, value);
    if (bar !== undefined && bar !== null) {
      const inside = el("i");
      inside.style.width = Math.min(100, 100 * bar) + "%";
      shown.append(el("span", { class: bar > 0.85 ? "bar high" : "bar" }, inside));
    }
    return [el("dt", {}, name), shown];
  }));
}

function showStages(status) {
  const primary = status.primary;
  const age = primary.age === null ? "never heard of" : primary.age < 3 ? "answers" : "last heard of " + duration(primary.age) + " ago";
  const cards = [el("li", { class: "stage" }, el("h3", {}, "primary"),
    el("div", { class: "big" }, primary.lsn ?? UNKNOWN), el("p", { class: "more" }, "end of its log"), el("p", { class: "more" }, age))];
  for (const stage of status.stages) {
    const off = stage.condition === "off";
    const behind = off ? "this run keeps no tables in memory" : stage.lag_bytes === null ? "distance unknown"
      : stage.lag_bytes > 0 ? size(stage.lag_bytes) + " behind" : stage.lag === 0 ? "has everything" : "level with the primary's last answer";
    const about = stage.condition === "stalled" ? `stands for ${duration(stage.standing)}${stage.reason ? ": " + stage.reason : ""}`
      : stage.condition === "busy" ? stage.reason : off ? "" : HINTS[stage.stage];
    cards.push(el("li", { class: `stage ${stage.stage} ${stage.condition}`, "data-stage": stage.stage },
      el("h3", {}, stage.stage, tag(stage.condition)),
      el("div", { class: "big" }, off ? "—" : duration(stage.lag)),
      el("p", { class: "more" }, behind), el("p", { class: "more" }, off ? "" : "at " + (stage.lsn ?? UNKNOWN)), el("p", { class: "more" }, about)));
  }
  put("stages", ...cards);
}

const perSecond = (n) => n === null ? UNKNOWN : (n < 10 && n > 0 ? n.toFixed(1) : count(Math.round(n))) + "/s";

function showFigures(status) {
  const { replayed, rates, journal, slot, queues } = status;
  const all = replayed.changes;
  rows("work", [
    ["transactions", perSecond(rates.transactions)], ["row changes", perSecond(rates.changes)],
    ["log", rates.bytes === null ? UNKNOWN : size(rates.bytes) + "/s"],
    ["transactions in all", count(replayed.transactions)],
    ["changes never written", all ? `${count(replayed.coalesced)} (${Math.round(100 * replayed.coalesced / all)} %)` : count(replayed.coalesced)],
    ...Object.entries(queues).map(([store, held]) => ["before " + store, size(held), held / status.queue_limit]),
  ]);
  rows("journal", [
    ["on disk", `${size(journal.bytes)} of ${size(journal.limit)}`, journal.bytes / journal.limit],
    ["files", count(journal.segments)], ["from", journal.oldest_lsn ?? UNKNOWN], ["to", journal.newest_lsn ?? UNKNOWN],
    ["fsyncs", count(journal.fsyncs)], ["mean fsync", duration(journal.fsync_mean)],
  ]);
  if (slot === null) rows("slot", [["state", UNKNOWN]]);
  else if (!slot.exists) rows("slot", [["state", tag("missing")]]);
  else rows("slot", [
    ["wal_status", slot.wal_status === null ? UNKNOWN : tag(slot.wal_status)], ["streams", slot.active === null ? UNKNOWN : slot.active ? "yes" : "no"],
    ["retained on the primary", size(slot.retained)],
    ["safe_wal_size", slot.safe_wal_size === null ? (slot.wal_status === "lost" ? UNKNOWN : "no limit") : size(slot.safe_wal_size)],
    ["as of", slot.age === null ? UNKNOWN : slot.age < 3 ? "now" : duration(slot.age) + " ago"],
  ]);
  const resident = status.objects.filter((o) => o.bytes !== null);
  const sum = (name) => resident.reduce((n, o) => n + o[name], 0);
  const off = status.stages.some((s) => s.stage === "memory" && s.condition === "off");
  rows("memory", [
    ["tables in memory", off ? "off" : count(resident.length)], ["rows", off ? "off" : count(sum("rows"))],
    ["their size", off ? "off" : size(sum("bytes"))], ["process", size(status.resident_memory)],
  ]);
}

function showObjects(status) {
  const shown = status.objects.slice(0, 100);
  text("objects-note", status.objects_total === 0 ? "" : shown.length < status.objects_total
    ? `${shown.length} of ${status.objects_total}, latest change first` : `${status.objects_total}, latest change first`);
  if (!shown.length) { put("objects", el("tr", {}, el("td", { colspan: "7", class: "none" }, "no table has changed since the start"))); return; }
  put("objects", ...shown.map((o) => el("tr", {}, el("td", {}, `${o.schemaname}.${o.relname}`), el("td", {}, tag(o.residence)),
    ...[o.rows === null ? "—" : count(o.rows), o.bytes === null ? "—" : size(o.bytes), count(Math.max(o.dml_memory, o.dml_persistence)), count(o.loads), count(o.evictions)]
      .map((cell) => el("td", { class: "n" }, cell)))));
}

function showErrors(status) {
  const error = status.last_error;
  $("last-error").className = error ? "" : "none";
  if (error) put("last-error", el("b", {}, "last, at " + new Date(error.at * 1000).toLocaleString("en-GB")), error.message);
  else put("last-error", "none");
  rows("errors", [
    ...Object.entries(status.errors).filter(([, n]) => n).map(([kind, n]) => [kind, count(n)]),
    ...status.retries.map((r) => [`${r.stage} tried again: ${r.reason}`, count(r.count)]),
  ]);
}

// -- the plot ------------------------------------------------------------------------------------
function take(history) {
  for (let i = 0; i < history.at.length; i++) {
    const lag = {};
    for (const stage of STAGES) lag[stage] = history.lag[stage][i];
    points.push({ at: history.at[i], lag });
  }
  last = history.last;
  const newest = points.length ? points[points.length - 1].at : 0;
  points = points.filter((p) => p.at > newest - SPAN_S - 2);
}
function ceiling(top) {
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 43200, 86400];
  return steps.find((s) => s >= top) ?? Math.ceil(top / 86400) * 86400;
}
const axis = (s) => s < 1 ? +(s * 1000).toFixed(1) + " ms" : s < 120 ? +s.toFixed(1) + " s" : s < 7200 ? +(s / 60).toFixed(1) + " min" : +(s / 3600).toFixed(1) + " h";

function draw(now) {
  const svg = $("plot"), width = svg.clientWidth || 800, height = svg.clientHeight || 230;
  const left = 62, right = width - 12, top = 10, bottom = height - 24;
  const most = points.reduce((m, p) => Math.max(m, ...STAGES.map((s) => p.lag[s] ?? 0)), 0);
  const peak = ceiling(most * 1.05);
  // A young process has little to show: the axis grows with it.
  const age = points.length ? now - points[0].at : 0, span = Math.min(SPAN_S, Math.max(LEAST_SPAN_S, age));
  const x = (at) => right - (now - at) / span * (right - left), y = (lag) => bottom - lag / peak * (bottom - top);
  const drawn = [];
  for (let i = 0; i <= 4; i++) {
    const lag = peak * i / 4, at = y(lag);
    drawn.push(el("line", { class: "rule", x1: left, x2: right, y1: at, y2: at }), el("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, axis(lag)));
  }
  const room = (right - left) / 75, step = [10, 20, 30, 60, 120, 300].find((s) => span / s <= Math.min(6, room)) ?? 300;
  for (let ago = 0; ago <= span; ago += step)
    drawn.push(el("text", { x: x(now - ago), y: height - 6, "text-anchor": ago === 0 ? "end" : ago > span * 0.9 ? "start" : "middle" },
      ago === 0 ? "now" : ago % 60 ? `−${ago} s` : `−${ago / 60} min`));
  for (const stage of STAGES) {
    let d = "", before = null;
    for (const p of points) {
      const lag = p.lag[stage];
      if (lag === null || p.at < now - span) { before = null; continue; }
      d += `${before !== null && p.at - before < 5 ? "L" : "M"}${x(p.at).toFixed(1)} ${y(lag).toFixed(1)}`;
      before = p.at;
    }
    if (d) drawn.push(el("path", { class: `trace ${stage}`, d, "data-trace": stage }));
  }
  if (!points.length) drawn.push(el("text", { x: (left + right) / 2, y: (top + bottom) / 2, "text-anchor": "middle" }, "nothing measured yet"));
  let read = "";
  if (hover !== null && points.length) {
    const at = now - (right - hover) / (right - left) * span;
    const near = points.reduce((a, b) => Math.abs(b.at - at) < Math.abs(a.at - at) ? b : a);
    drawn.push(el("line", { class: "cursor", x1: x(near.at), x2: x(near.at), y1: top, y2: bottom }));
    read = clock(near.at) + "   " + STAGES.map((s) => `${s} ${duration(near.lag[s])}`).join(" · ");
  }
  text("plot-span", "last " + duration(Math.round(span)).replace(/ min 0 s$/, " min").replace(/\.0 s$/, " s").replace(/^1 min$/, "minute"));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...drawn);
  text("readout", read);
  const newest = points[points.length - 1];
  if (newest) svg.setAttribute("aria-label", "Lag of each stage over the last minutes. Now: " + STAGES.map((s) => `${s} ${duration(newest.lag[s])}`).join(", "));
}
$("plot").addEventListener("pointermove", (e) => { hover = e.offsetX; draw(shownNow()); });
$("plot").addEventListener("pointerleave", () => { hover = null; draw(shownNow()); });
const shownNow = () => points.length ? points[points.length - 1].at : Date.now() / 1000;
addEventListener("resize", () => draw(shownNow()));
put("legend", ...STAGES.map((stage) => el("li", { class: stage }, el("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" }, el("path", { class: "trace " + stage, d: "M0 4H26" })), stage)));

// -- the state -----------------------------------------------------------------------------------
function showState(state, reason) {
  document.body.dataset.state = state;
  text("state", state);
  text("reason", reason);
  document.title = `${state} · ${$("replica").textContent} · logship`;
  const colour = { streaming: "2a9d5c", busy: "3b7ddd", starting: "3b7ddd", waiting: "d98f00", stalled: "d0313f", failed: "d0313f" }[state] ?? "8a93a3";
  $("icon").href = `data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%23${colour}'/%3E%3C/svg%3E`;
}

function show(status) {
  if (status.stages === undefined) { text("replica", status.replica ?? "…"); showState(status.state, "no figures yet"); return; }
  if (status.started !== started) { points = []; started = status.started; }
  text("replica", status.replica);
  showState(status.state, status.reason);
  text("clock", "as of " + clock(status.now));
  text("about", `logship ${status.version}, up ${duration(status.now - status.started)}`);
  take(status.history);
  showStages(status);
  showFigures(status);
  showObjects(status);
  showErrors(status);
  draw(status.now);
}

function old(why) {
  const for_s = answeredAt === null ? null : (Date.now() - answeredAt) / 1000;
  if (for_s !== null && for_s < OLD_AFTER_S) return;
  document.body.classList.add("old");
  $("stale").hidden = false;
  text("stale", for_s === null ? `${why}: nothing is known` : `${why} for ${duration(for_s)}: what you see is old, as of ${clock(answeredAt / 1000)}`);
  showState("unknown", "");
}

async function ask() {
  try {
    const answer = await fetch(`/status?after=${last}`, { cache: "no-store", signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error("status " + answer.status);
    let status = await answer.json();
    if (started !== null && status.started !== undefined && status.started !== started && last > 0) {
      last = 0;   // another process: its history begins anew
      status = await (await fetch("/status?after=0", { cache: "no-store", signal: AbortSignal.timeout(4000) })).json();
    }
    answeredAt = Date.now();
    document.body.classList.remove("old");
    $("stale").hidden = true;
    show(status);
  } catch (error) {
    old(error instanceof TypeError || error.name === "TimeoutError" ? "logship doesn't answer" : "logship's answer can't be shown");
  }
  setTimeout(ask, EVERY_MS);
}
ask();
