// How the cluster does, as the gateway tells it (GET /v1/status), once a second while
// somebody looks at the page.

import { authorization } from "./token.js";

const base = new URL("../v1/", import.meta.url);
const every = 1000;
const patience = 10_000;

/** A report of the gateway, or why there is none:
 * { console, version, age_ms, trouble, cluster } or { trouble, cluster: null, away: true };
 * denied says that this page's token does not do. */
async function fetchStatus() {
  try {
    const answer = await fetch(new URL("status", base), { cache: "no-store", headers: authorization(), signal: AbortSignal.timeout(patience) });
    if (answer.headers.get("Content-Type") === "application/json") {
      const body = await answer.json();
      return body.error ? { cluster: null, denied: true, trouble: `nodes and moves are not shown: ${body.error}` } : body;
    }
    return { cluster: null, away: true, trouble: `the gateway answers ${answer.status}: ${(await answer.text()).trim().slice(0, 200)}` };
  } catch {
    return { cluster: null, away: true, trouble: "the gateway does not answer" };
  }
}

/** Calls back with a report now and each second. The last state of the cluster stays in
 * the reports while there is no newer one, with its age. Returns what asks at once. */
export function followStatus(tell) {
  let last = null;
  let seen = 0;
  let timer;
  let busy = false;
  async function ask() {
    clearTimeout(timer);
    if (busy) return;
    busy = true;
    const report = await fetchStatus();
    busy = false;
    if (!document.hidden) timer = setTimeout(ask, every); // whatever becomes of this one
    take(report);
  }
  function take(report) {
    if (report.cluster) {
      last = report;
      seen = performance.now() - report.age_ms;
    }
    tell(last ? { ...last, ...report, cluster: last.cluster, age_ms: performance.now() - seen } : report);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  ask();
  return { ask, take };
}

/** Has the manager start no further move ("pause"), or start them again ("resume").
 * Returns a report; throws an error with the reason. */
export async function changeMoves(verb) {
  let answer;
  try {
    answer = await fetch(new URL(`moves/${verb}`, base), {
      method: "POST", headers: { "Content-Type": "application/json", ...authorization() }, body: "{}", signal: AbortSignal.timeout(2 * patience),
    });
  } catch {
    throw new Error("The gateway has not answered. It may have been done or not.");
  }
  const text = await answer.text();
  if (answer.headers.get("Content-Type") !== "application/json") throw new Error(text.trim() || `The gateway answers ${answer.status}.`);
  const body = JSON.parse(text);
  if (!answer.ok) throw new Error(body.error ?? `The gateway answers ${answer.status}.`);
  return body;
}
