// Keeps the page true while it is open: what the server says has changed is fetched again as a
// piece of HTML. Without this file the pages work, and show how things stood when they were loaded.

const list = document.querySelector("[data-studies]");
const job = document.querySelector("[data-job]");
const STATUS_EVERY_MS = 10_000;

// --- times ---------------------------------------------------------------------------------------

const clock = {
  minute: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  second: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }),
};
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

function tellTimes(root) {
  for (const element of root.querySelectorAll("time[data-when]")) {
    const time = new Date(element.dateTime);
    const isToday = time.toDateString() === new Date().toDateString();
    const exact = clock[element.dataset.when].format(time);
    element.textContent = isToday ? exact : `${day.format(time)} ${exact}`;
    element.title = `${day.format(time)} ${clock.second.format(time)}`;
  }
  tick();
}

function tick() {
  for (const element of document.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, (Date.now() - Date.parse(element.dataset.since)) / 1000);
    const whole = Math.floor(seconds);
    element.textContent = whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  }
}

// --- pieces of the page --------------------------------------------------------------------------

async function piece(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } }); // errors as JSON
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  return answer.ok ? answer.text() : null;
}

// Fetches a piece at most once at a time, and once more when it changed meanwhile.
const underWay = new Map();
async function refresh(path, show) {
  if (underWay.has(path)) {
    underWay.set(path, true);
    return;
  }
  underWay.set(path, false);
  try {
    const html = await piece(path);
    if (html !== null) show(html);
  } finally {
    const again = underWay.get(path);
    underWay.delete(path);
    if (again) refresh(path, show);
  }
}

function replace(element, html) {
  const open = [...element.querySelectorAll("details")].map((details) => details.open);
  const focused = element.contains(document.activeElement) ? document.activeElement.textContent : null;
  element.innerHTML = html;
  element.querySelectorAll("details").forEach((details, index) => { details.open = open[index] ?? false; });
  if (focused) [...element.querySelectorAll("button, a")].find((one) => one.textContent === focused)?.focus();
  tellTimes(element);
}

const rowOf = (study) => document.getElementById(`study-${study}`);

function refreshStudy(study) {
  const row = rowOf(study);
  if (row) {
    refresh(`/fragments/studies/${study}/work`, (html) => replace(row.querySelector("[data-work]"), html));
    return;
  }
  const takesNew = list.dataset.page === "1" && ["all", "working"].includes(list.dataset.show);
  if (!takesNew) return;
  refresh(`/fragments/studies/${study}`, (html) => {
    if (rowOf(study)) return;
    document.querySelector("[data-empty]")?.remove();
    const made = document.createElement("template");
    made.innerHTML = html.trim();
    list.prepend(made.content);
    tellTimes(rowOf(study));
  });
}

// --- what the server tells -----------------------------------------------------------------------

function listen(path, handlers) {
  const source = new EventSource(path);
  const sign = document.querySelector("[data-live]");
  source.addEventListener("open", () => { if (sign) { sign.hidden = false; sign.textContent = "live"; } });
  source.addEventListener("error", () => { if (sign) sign.textContent = "not connected"; });
  source.addEventListener("logout", () => { source.close(); location.reload(); });
  source.addEventListener("end", () => source.close());
  for (const [kind, handle] of Object.entries(handlers)) {
    source.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  }
}

async function tellStatus() {
  const answer = await fetch("/api/status");
  if (!answer.ok) return;
  const status = await answer.json();
  document.querySelector("[data-worker]").hidden = status.workers.length > 0;
  const counts = { all: status.studies, working: status.working, failed: status.failed, completed: status.completed };
  for (const element of document.querySelectorAll("[data-count]")) element.textContent = counts[element.dataset.count];
}

if (list) {
  let told = 0;
  listen("/api/events", {
    job: (changed) => { refreshStudy(changed.study); clearTimeout(told); told = setTimeout(tellStatus, 500); },
    study: (changed) => {
      const count = rowOf(changed.id)?.querySelector("[data-arriving]");
      if (count && changed.arriving !== null) count.textContent = changed.arriving;
      else refreshStudy(changed.id);
    },
  });
  setInterval(tellStatus, STATUS_EVERY_MS);
}

if (job && ["scheduled", "in_progress"].includes(job.dataset.jobState)) followJob();

function followJob() {
  const show = () => refresh(`/fragments/jobs/${job.dataset.job}`, (html) => replace(job, html));
  listen(`/api/jobs/${job.dataset.job}/events`, { job: show });
}

// Cancel and retry without leaving the page; a refusal is shown by the page that says why.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!("quiet" in form.dataset) || !list) return;
  event.preventDefault();
  form.querySelector("button").disabled = true;
  const answer = await fetch(form.action, { method: "POST" });
  if (!answer.ok) location.assign(form.action.replace(/\/(cancel|retry)$/, ""));
});

tellTimes(document);
document.addEventListener("piece", () => tellTimes(document)); // another script brought a piece
setInterval(tick, 1000);
