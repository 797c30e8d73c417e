// Counts while a filter is being set, and follows a collection or an export until it has ended.
// Without this file the pages work: `Count` counts, and loading again shows how things stand.

const EVERY_MS = 1000;

async function piece(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (answer.status === 401) location.reload();
  return answer.ok ? answer.text() : null;
}

// --- picking -------------------------------------------------------------------------------------

const filters = document.querySelector("[data-pick]");
const picked = document.querySelector("[data-picked]");
const collect = document.querySelector("[data-collect]");

let asked = 0;
async function count() {
  const said = [...new FormData(filters)].filter(([, value]) => value !== "");
  const query = new URLSearchParams(said).toString();
  const mine = ++asked;
  const html = await piece(`/fragments/picked?${query}`);
  if (html === null || mine !== asked) return;
  picked.innerHTML = html;
  document.dispatchEvent(new Event("piece"));
  history.replaceState(null, "", query ? `/collect?${query}` : "/collect");
  if (collect) collect.action = query ? `/collect?${query}` : "/collect";
}

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
