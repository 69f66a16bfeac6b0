// The pool's state, live, from /health: it is answered from memory, so asking often costs nothing.

import { call } from "./api.js";
import { byId, element } from "./elements.js";

const EVERY_MS = 2000;
const MOST_DOTS = 40;

export function watchPool() {
  let timer = 0;
  const again = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    await ask();
    timer = setTimeout(again, EVERY_MS);
  };
  document.addEventListener("visibilitychange", again);
  again();
  return again;
}

async function ask() {
  try {
    show(await (await call("health")).json());
  } catch {
    byId("pool-text").textContent = "no answer from the service";
    byId("slots").replaceChildren();
  }
}

export function summary(pool) {
  const { ready = 0, leased = 0, starting = 0 } = pool.slots;
  const rest = starting ? ` · ${starting} starting` : "";
  return `${ready} ready · ${leased} running · ${pool.waiting} waiting${rest}`;
}

function show(health) {
  const dots = ["ready", "leased", "starting"].flatMap((state) => Array(health.pool.slots[state] ?? 0).fill(state));
  byId("slots").replaceChildren(...dots.slice(0, MOST_DOTS).map((state) => element("i", { class: state })));
  byId("pool-text").textContent = `${summary(health.pool)} · isolation ${health.isolation}`;
  const notice = health.pool.hold_text ?? health.message;
  byId("notice").hidden = !notice;
  if (byId("notice").textContent !== (notice ?? "")) byId("notice").textContent = notice ?? "";
}
