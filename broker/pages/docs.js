// The API as /openapi.json tells it: every field, every answer, and a form that tries the call.

import { call, good, useKey } from "./api.js";
import { byId, element, milliseconds } from "./elements.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const SHOWN_BYTES = 200_000;
let api = {};

const resolved = (schema) => (schema?.$ref ? schema.$ref.split("/").slice(1).reduce((found, name) => found[name], api) : schema ?? {});
const nameOf = (schema) => schema.$ref?.split("/").pop();

// --- text: only `code`, paragraphs and lists are known ----------------------------------------

const inline = (text) => text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));

function prose(text = "") {
  return text.split("\n\n").map((part) => {
    const lines = part.split("\n");
    if (!lines.every((line) => line.startsWith("* "))) return element("p", {}, ...inline(part));
    return element("ul", {}, ...lines.map((line) => element("li", {}, ...inline(line.slice(2)))));
  });
}

// --- schemas --------------------------------------------------------------------------------

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema);
  if (schema.allOf) return typeOf(schema.allOf[0]);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items) || "values"}`;
  return [schema.type, schema.format].filter(Boolean).join(", ");
}

function limits(schema) {
  const words = { minimum: "at least", maximum: "at most", maxItems: "entries at most" };
  const found = Object.entries(words).filter(([name]) => name in schema).map(([name, text]) => `${text} ${schema[name]}`);
  if ("default" in schema) found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join(", ");
}

function fields(schema) {
  const whole = resolved(schema);
  if (!whole.properties) return prose(whole.description);
  const rows = Object.entries(whole.properties).map(([name, field]) => element("tr", {},
    element("td", {}, element("code", {}, name), whole.required?.includes(name) ? " *" : null),
    element("td", {}, typeOf(field)),
    element("td", {}, ...inline([field.description ?? resolved(field).description, limits(field)].filter(Boolean).join(" — ")))));
  return [table(["Field", "Type", "Meaning"], rows)];
}

const table = (heads, rows) => element("div", { class: "wide" }, element("table", {},
  element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))), element("tbody", {}, ...rows)));

// --- an operation ---------------------------------------------------------------------------

function show(method, path, operation) {
  const title = element("h2", {}, element("span", { class: `method ${method}` }, method), element("code", {}, path), element("span", { class: "dim" }, operation.operationId));
  const [media, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  return element("article", { class: "operation card", id: operation.operationId }, title,
    element("p", {}, element("strong", {}, operation.summary)), ...prose(operation.description),
    ...(body ? [element("h3", {}, `Body (${media})`), ...fields(body.schema)] : []),
    element("h3", {}, "Answers"), answers(operation.responses), ...goodBody(operation), tryIt(method, path, operation, media, body));
}

function answers(responses) {
  const rows = Object.entries(responses).map(([status, response]) => element("tr", {},
    element("td", {}, element("code", {}, status)), element("td", {}, ...prose(resolved(response).description)),
    element("td", {}, Object.keys(resolved(response).headers ?? {}).join(", "))));
  return table(["Status", "Meaning", "Headers"], rows);
}

function goodBody(operation) {
  const content = Object.values(operation.responses).flatMap((each) => Object.values(each.content ?? {}))[0] ?? {};
  const events = (content.schema?.oneOf ?? []).flatMap(({ description, properties: { event, data } }) =>
    [element("h3", {}, `event: ${event.const}`), ...prose(description), ...fields(data.contentSchema)]);
  if (events.length) return events;
  return nameOf(content.schema ?? {}) && nameOf(content.schema) !== "ErrorBody" ? [element("h3", {}, "Answered body"), ...fields(content.schema)] : [];
}

// --- trying it ------------------------------------------------------------------------------

function tryIt(method, path, operation, media, body) {
  const form = element("form", { class: "try" });
  const controls = (operation.parameters ?? []).map((each) => control(each.name, element("input", { name: each.name, required: each.required }), operation));
  if (media === "application/json") {
    const area = element("textarea", { name: "body", spellcheck: "false" });
    area.value = JSON.stringify(body.example ?? {}, null, 2);
    controls.push(control("body", area, operation));
  } else if (media) {
    const part = Object.keys(resolved(body.schema).properties)[0];
    controls.push(control(part, element("input", { type: "file", name: part, required: true }), operation));
  }
  const answer = element("pre", { class: "answer", tabindex: "0", hidden: true, "aria-label": "Answer" });
  form.append(...controls.flat(), element("div", { class: "row" }, element("button", { class: "first" }, "Send")), answer);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, method, path, operation, media, answer);
  });
  return element("details", {}, element("summary", {}, "Try it"), form);
}

function control(name, made, operation) {
  made.id = `${operation.operationId}-${name}`;
  return [element("label", { for: made.id }, name), made];
}

async function send(form, method, path, operation, media, answer) {
  const began = performance.now();
  answer.hidden = false;
  answer.textContent = "…";
  try {
    const got = await call(filled(form, path, operation).slice(1), request(form, method, media));
    const head = [...got.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    answer.textContent = `${got.status} ${got.statusText} after ${milliseconds(performance.now() - began)}\n${head}\n\n`;
    await pour(got, answer);
  } catch (error) {
    answer.textContent = String(error.message);
  }
}

function filled(form, path, operation) {
  return (operation.parameters ?? []).filter((each) => each.in === "path")
    .reduce((whole, each) => whole.replace(`{${each.name}}`, encodeURIComponent(form.elements[each.name].value)), path);
}

function request(form, method, media) {
  if (media === "application/json") return { method, headers: { "Content-Type": media }, body: form.elements.body.value };
  return media ? { method, body: new FormData(form) } : { method };
}

/** As it comes, and as text, whatever it is. */
async function pour(got, answer) {
  if (!got.body) return;
  const reader = got.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let shown = 0; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    answer.append(document.createTextNode(value.slice(0, Math.max(0, SHOWN_BYTES - shown))));
    if ((shown += value.length) > SHOWN_BYTES) {
      answer.append(document.createTextNode("\n… and more"));
      return reader.cancel();
    }
  }
}

// --- the page -------------------------------------------------------------------------------

async function showAll() {
  api = await (await good("openapi.json")).json();
  const all = Object.entries(api.paths).flatMap(([path, item]) => Object.keys(item).filter((key) => METHODS.includes(key)).map((method) => show(method, path, item[method])));
  byId("operations").replaceChildren(...prose(api.info.description), ...all);
  document.documentElement.dataset.ready = "yes";
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

document.addEventListener("key-needed", () => (byId("key-form").hidden = false));
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  byId("key-form").hidden = true;
  showAll();
});
showAll().catch((error) => byId("operations").replaceChildren(element("p", { class: "bad" }, error.message)));
