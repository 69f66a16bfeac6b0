// Calls of the API of this origin.

// In this page's memory only: a reload forgets it.
let key = "";

export function useKey(text) {
  key = text.trim();
}

/** The answer, whatever its status. */
export async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  if (answer.status === 401) document.dispatchEvent(new Event("key-needed"));
  return answer;
}

/** The answer if it is a good one; else an error that says what the service said. */
export async function good(path, options) {
  const answer = await call(path, options);
  if (answer.ok) return answer;
  throw new Error(await refusal(answer));
}

async function refusal(answer) {
  const body = await answer.json().catch(() => ({}));
  const detail = Array.isArray(body.detail) ? body.detail.map((each) => `${each.loc.join(".")}: ${each.msg}`).join("; ") : body.detail;
  const again = answer.headers.get("Retry-After");
  return `${answer.status}: ${detail ?? answer.statusText}${again ? ` Try again in ${again} s.` : ""}`;
}

export function postJson(path, body, options = {}) {
  const headers = { "Content-Type": "application/json" };
  return good(path, { method: "POST", headers, body: JSON.stringify(body), ...options });
}

export async function uploadFile(file) {
  const form = new FormData();
  form.append("file", file, file.name);
  return (await good("v1/files", { method: "POST", body: form })).json();
}

export const fileUrl = (id) => `v1/files/${encodeURIComponent(id)}`;

/** Server-sent events, as they come: [name, data]. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
      if (fields.event) yield [fields.event, JSON.parse(fields.data)];
    }
  }
}
