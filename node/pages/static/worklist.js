// Keeps the worklist true while it is open, holds what this reader holds, and answers to keys.
// Without this file the page works: filters, claims and all deeds are plain forms.

const table = document.querySelector("[data-cases]");
const panel = document.querySelector("[data-panel]");
const HEARTBEAT_MS = 60_000;

document.documentElement.classList.add("scripted");

// --- times (as on the other pages) ---------------------------------------------------------------

const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

function tellTimes(root) {
  for (const element of root.querySelectorAll("time[data-when]")) {
    const time = new Date(element.dateTime);
    const isToday = time.toDateString() === new Date().toDateString();
    element.textContent = isToday ? hour.format(time) : `${day.format(time)} ${hour.format(time)}`;
  }
}

// A case without a picture has an empty place, not a broken one.
document.addEventListener("error", (event) => {
  if (event.target.matches?.("img[data-preview]")) event.target.classList.add("none");
}, true);

// --- rows ----------------------------------------------------------------------------------------

const rows = () => [...(table?.tBodies[0].rows ?? [])];
const rowOf = (id) => rows().find((row) => row.dataset.case === id);
const selected = () => rows().find((row) => row.getAttribute("aria-selected") === "true");

async function piece(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } }); // errors as JSON
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  return answer.ok ? answer.text() : null;
}

// All of a row but who the patient is: a piece that is fetched again holds no identity.
async function refreshRow(id) {
  const html = await piece(`/fragments/worklist/${id}/row`);
  const row = rowOf(id);
  if (html === null || !row) return;
  const made = document.createElement("template");
  made.innerHTML = html.trim();
  const fresh = made.content.querySelector("tr");
  const known = row.querySelector("img[data-preview]");
  for (const [place, cell] of [...fresh.cells].entries()) {
    if (cell.classList.contains("who")) continue;
    if (cell.classList.contains("picture") && known?.src.endsWith(cell.querySelector("img").getAttribute("src"))) continue;
    row.cells[place].replaceWith(cell.cloneNode(true));
  }
  row.dataset.state = fresh.dataset.state;
  if (fresh.dataset.holder) row.dataset.holder = fresh.dataset.holder;
  else delete row.dataset.holder;
  tellTimes(row);
}

async function showPanel(id) {
  const html = await piece(`/fragments/worklist/${id}`);
  if (html === null || selected()?.dataset.case !== id) return;
  panel.innerHTML = html;
  tellTimes(panel);
}

function select(row, { focus = true } = {}) {
  if (!row) return;
  for (const other of rows()) other.removeAttribute("aria-selected");
  row.setAttribute("aria-selected", "true");
  if (focus) row.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
  showPanel(row.dataset.case);
}

function step(by) {
  const all = rows();
  const here = all.indexOf(selected());
  select(all[Math.min(all.length - 1, Math.max(0, here < 0 ? 0 : here + by))]);
}

table?.addEventListener("click", (event) => {
  if (event.target.closest("a, button")) return;
  select(event.target.closest("tr[data-case]"), { focus: false });
});

// --- deeds ---------------------------------------------------------------------------------------

async function act(action, body) {
  const answer = await fetch(action, { method: "POST", body, headers: { Accept: "application/json" }, redirect: "manual" });
  if (answer.type === "opaqueredirect" || answer.ok) return null;
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  const fault = await answer.json().catch(() => ({}));
  const text = fault.message ?? "The node could not do that";
  return text[0].toUpperCase() + text.slice(1);
}

function tell(trouble) {
  const place = panel.querySelector("[data-trouble]");
  if (!place) return;
  place.hidden = !trouble;
  place.textContent = trouble ?? "";
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!("deed" in form.dataset)) return;
  event.preventDefault();
  const id = selected()?.dataset.case;
  const trouble = await act(form.action, new URLSearchParams(new FormData(form)));
  if (!trouble && id) await Promise.all([refreshRow(id), showPanel(id)]);
  tell(trouble);
});

async function deed(name) {
  const row = selected();
  if (!row) return;
  const trouble = await act(`/worklist/${row.dataset.case}`, new URLSearchParams({ deed: name }));
  await refreshRow(row.dataset.case);
  if (!trouble) await showPanel(row.dataset.case);
  tell(trouble);
}

const KEYS = {
  j: () => step(1),
  ArrowDown: () => step(1),
  k: () => step(-1),
  ArrowUp: () => step(-1),
  Enter: () => selected()?.querySelector("[data-open]")?.click(),
  c: () => deed("claim"),
  r: () => deed("release"),
  n: () => document.querySelector(".next button")?.click(),
  "/": () => document.querySelector(".search input")?.focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea, button, a")) return;
  const known = KEYS[event.key];
  if (!known) return;
  event.preventDefault();
  known();
});

for (const choice of document.querySelectorAll("[data-filters] select")) {
  choice.addEventListener("change", () => {
    const wanted = new URLSearchParams(new FormData(choice.form));
    for (const [name, value] of [...wanted]) if (!value) wanted.delete(name);
    location.assign(`/worklist?${wanted}`);
  });
}

// --- what the server tells -----------------------------------------------------------------------

const waiting = new Map(); // a case that changes ten times in a second is fetched once

function changed(told) {
  const row = rowOf(told.id);
  if (!row) {
    document.querySelector("[data-changed]").hidden = false;
    return;
  }
  clearTimeout(waiting.get(told.id));
  waiting.set(told.id, setTimeout(() => {
    waiting.delete(told.id);
    refreshRow(told.id);
    const writes = panel?.contains(document.activeElement);
    if (row === selected() && !writes) showPanel(told.id);
  }, 150));
}

function listen() {
  const source = new EventSource("/api/worklist/events");
  const sign = document.querySelector("[data-live]");
  const loaded = Date.now();
  source.addEventListener("open", () => { sign.hidden = false; sign.textContent = "live"; });
  source.addEventListener("error", () => { sign.textContent = "not connected"; });
  source.addEventListener("logout", () => { source.close(); location.reload(); });
  source.addEventListener("case", (event) => {
    const told = JSON.parse(event.data);
    if (rowOf(told.id) || Date.parse(told.changed_at) > loaded) changed(told);
  });
}

// What this reader holds stays theirs while the page is open.
async function beat() {
  await fetch("/api/worklist/heartbeat", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }).catch(() => null);
}

tellTimes(document);
listen();
setInterval(beat, HEARTBEAT_MS);
const asked = panel?.dataset.selected;
if (asked) select(rowOf(asked), { focus: false });
