// Counts while a filter is being set and series are ticked, and follows a collection or an export
// until it has ended. Without this file the pages work: `Count` counts, what is unticked in the list
// is left out, and loading again shows how things stand.

const EVERY_MS = 1000;

async function piece(path, form = null) {
  const headers = { Accept: "application/json" };
  const answer = await fetch(path, form ? { method: "POST", body: form, headers } : { headers });
  if (answer.status === 401) location.reload();
  return answer.ok ? answer.text() : null;
}

// --- picking -------------------------------------------------------------------------------------

const filters = document.querySelector("[data-pick]");
const picked = document.querySelector("[data-picked]");
const collect = document.querySelector("[data-collect]");

const without = new Set(); // unticked: series, and studies as a whole
let shown = null;
let asked = 0;
async function count() {
  const said = [...new FormData(filters)].filter(([, value]) => value !== "");
  const query = new URLSearchParams(said).toString();
  const mine = ++asked;
  const body = new URLSearchParams([...without].map((id) => ["without", id]));
  const html = await piece(`/fragments/picked?${query}${shown ? `&shown=${shown}` : ""}`, body);
  if (html === null || mine !== asked) return;
  const focused = document.activeElement?.matches?.("input[name=picked]")
    ? document.activeElement.value
    : null;
  picked.innerHTML = html;
  if (focused) picked.querySelector(`input[name=picked][value="${CSS.escape(focused)}"]`)?.focus();
  document.dispatchEvent(new Event("piece"));
  history.replaceState(null, "", query ? `/collect?${query}` : "/collect");
  if (collect) collect.action = query ? `/collect?${query}` : "/collect";
}

function tick(box) {
  const [whole, ...series] = box.closest("tbody").querySelectorAll("input[name=picked]");
  if (box === whole) {
    for (const one of series) without.delete(one.value);
    if (box.checked) without.delete(box.value);
    else without.add(box.value);
    return;
  }
  if (box.checked && without.delete(whole.value)) {
    for (const one of series) without.add(one.value); // of the study, this one alone
  }
  if (box.checked) without.delete(box.value);
  else without.add(box.value);
}

picked?.addEventListener("change", (event) => {
  if (event.target.name !== "picked") return;
  tick(event.target);
  count();
});
picked?.addEventListener("click", (event) => {
  const more = event.target.closest("[data-more]");
  if (!more) return;
  event.preventDefault();
  shown = more.dataset.more;
  count();
});
collect?.addEventListener("formdata", (event) => {
  for (const id of without) event.formData.append("without", id);
});

if (filters) {
  let soon = 0;
  filters.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(count, 250); });
  filters.addEventListener("submit", (event) => { event.preventDefault(); count(); });
}

// --- following -----------------------------------------------------------------------------------

const followed = document.querySelector("[data-follow]");

async function follow() {
  const html = await piece(followed.dataset.follow);
  if (html !== null) {
    followed.innerHTML = html;
    document.dispatchEvent(new Event("piece"));
  }
  if (html === null || followed.querySelector("[data-open]")) setTimeout(follow, EVERY_MS);
  else document.querySelector("[data-when-done]")?.removeAttribute("hidden");
}

if (followed?.querySelector("[data-open]")) setTimeout(follow, EVERY_MS);
