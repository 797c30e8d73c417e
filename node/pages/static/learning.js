// Follows a training: what the server says has changed is fetched again as a piece of HTML.

const training = document.querySelector("[data-training]");

async function refresh() {
  const answer = await fetch(`/fragments/learning/trainings/${training.dataset.training}`, { headers: { Accept: "application/json" } });
  if (answer.status === 401) location.reload();
  if (answer.ok) training.innerHTML = await answer.text();
}

if (training && ["scheduled", "in_progress"].includes(training.dataset.state)) {
  const source = new EventSource(`/api/learning/trainings/${training.dataset.training}/events`);
  const sign = document.querySelector("[data-live]");
  source.addEventListener("open", () => { sign.hidden = false; sign.textContent = "live"; });
  source.addEventListener("error", () => { sign.textContent = "not connected"; });
  source.addEventListener("training", refresh);
  source.addEventListener("logout", () => { source.close(); location.reload(); });
  source.addEventListener("end", () => { source.close(); sign.textContent = ""; refresh(); });
}

// What an error names is brought into sight where a drawing is wider than the page.

document.querySelector(".drawing .box-wrong")?.scrollIntoView({ block: "nearest", inline: "center" });

// A dataset that is being made: looked at once a second until it is there.

const freezing = document.querySelector("[data-freezing]");

async function look() {
  const answer = await fetch(`/fragments/learning/freezings/${freezing.dataset.freezing}`, { headers: { Accept: "application/json" } });
  if (answer.status === 401) location.reload();
  if (answer.ok) freezing.innerHTML = await answer.text();
  if (freezing.querySelector("[data-open=yes]")) setTimeout(look, 1000);
}

if (freezing?.querySelector("[data-open=yes]")) setTimeout(look, 1000);
