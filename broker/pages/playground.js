// The playground: one program at a time, through the API that everybody uses.

import { events, fileUrl, good, postJson, uploadFile, useKey } from "./api.js";
import { makeEditor } from "./editor.js";
import { byId, bytes, element, milliseconds, saveAs } from "./elements.js";
import { EXAMPLES } from "./examples.js";
import { asPicture, mayBePicture } from "./pictures.js";
import { watchPool } from "./pool.js";

const MOST_PICTURES = 12;
const PHASES = ["queue", "lease", "stage", "run", "collect"];
const inputs = new Map(); // path → file_id
let running = null;

const editor = makeEditor(byId("code"), byId("numbers"));
const refreshPool = watchPool();

// --- running --------------------------------------------------------------------------------

async function run() {
  if (running) return;
  running = new AbortController();
  clear();
  showRunning(true);
  say("Running…");
  try {
    const answer = await postJson("v1/execute/stream", asked(), { signal: running.signal });
    for await (const [name, data] of events(answer)) await take(name, data);
  } catch (error) {
    error.name === "AbortError" ? say("Stopped: the run was cancelled, its sandbox is gone.", "warn") : say(error.message, "bad");
  } finally {
    running = null;
    showRunning(false);
    refreshPool();
  }
}

function asked() {
  const lines = byId("args").value.split("\n").filter((line) => line);
  return {
    code: byId("code").value,
    timeout_ms: Number(byId("timeout").value),
    stdin: byId("stdin").value || null,
    args: lines,
    files: [...inputs].map(([path, id]) => ({ path, file_id: id })),
  };
}

async function take(name, data) {
  if (name === "output") write(data.stream, data.data);
  else if (name === "result") await showResult(data);
  else if (name === "error") say(data.message, "bad");
}

function showRunning(isRunning) {
  byId("run").disabled = isRunning;
  byId("stop").hidden = !isRunning;
}

function say(text, kind = "dim") {
  byId("state").className = kind;
  byId("state").textContent = text;
}

// --- what comes back ------------------------------------------------------------------------

function write(stream, text) {
  const output = byId("output");
  const atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
  const last = output.lastElementChild;
  if (last?.className === stream) last.firstChild.appendData(text);
  else output.append(element("span", { class: stream }, text));
  if (atEnd) output.scrollTop = output.scrollHeight;
}

async function showResult(result) {
  const notes = [
    ...result.limits_hit.map((limit) => `limit reached: ${limit}`),
    ...Object.entries(result.truncated).filter(([, cut]) => cut).map(([stream]) => `${stream} was cut`),
    ...(result.files_skipped_count ? [`${result.files_skipped_count} files not returned`] : []),
  ];
  say([ending(result), ...notes].join(" · "), result.exit_code === 0 ? "good" : "bad");
  showTimings(result.timings_ms);
  showFiles(result.files);
  await showPictures(result.files.filter(mayBePicture).slice(0, MOST_PICTURES));
}

function ending({ exit_code: code, termination: { reason, signal }, duration_ms: duration }) {
  const time = `after ${milliseconds(duration)}`;
  if (reason === "timeout") return `Its time was up ${time}`;
  if (reason === "exited") return `Exited with ${code} ${time}`;
  return `Ended by ${signal ?? reason.replaceAll("_", " ")}${reason === "signal" || reason === "exited" ? "" : ` (${reason.replaceAll("_", " ")})`} ${time}`;
}

function showTimings(timings) {
  const kinds = PHASES.filter((phase) => phase in timings);
  byId("bar").replaceChildren(...kinds.map((phase) => {
    const part = element("i", { class: phase });
    part.style.flexGrow = timings[phase];
    return part;
  }));
  byId("legend").replaceChildren(...kinds.map((phase) => element("span", {}, element("i", { class: phase }), `${phase} ${milliseconds(timings[phase])}`)));
  byId("timings").hidden = false;
}

function showFiles(files) {
  byId("outputs").replaceChildren(...files.map((file) => element("li", {},
    element("span", { class: "name" }, file.path), element("span", { class: "dim" }, bytes(file.size_bytes)),
    element("button", { class: "plain", type: "button", "aria-label": `Save ${file.path}`, onclick: () => save(file) }, "Save"),
    element("button", { class: "plain", type: "button", "aria-label": `Use ${file.path} as input`, onclick: () => addInput(file.path, file.file_id, file.size_bytes) }, "Use as input"))));
  byId("made").hidden = !files.length;
}

async function save(file) {
  try {
    saveAs(await content(file), file.path);
  } catch (error) {
    say(error.message, "bad");
  }
}

const content = async (file) => (await good(fileUrl(file.file_id))).blob();

async function showPictures(files) {
  for (const file of files) {
    const picture = await asPicture(await content(file));
    if (!picture) continue;
    const image = element("img", { src: URL.createObjectURL(picture), alt: `Picture ${file.path} made by the program` });
    byId("pictures").append(element("figure", {}, image, element("figcaption", {}, file.path)));
    byId("pictures").hidden = false;
  }
}

function clear() {
  for (const image of byId("pictures").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  for (const id of ["output", "pictures", "outputs"]) byId(id).replaceChildren();
  for (const id of ["pictures", "made", "timings"]) byId(id).hidden = true;
  say("");
}

// --- what goes in ---------------------------------------------------------------------------

function addInput(path, id, size) {
  removeInput(path);
  inputs.set(path, id);
  const remove = element("button", { class: "plain", type: "button", "aria-label": `Remove ${path}`, onclick: () => removeInput(path) }, "Remove");
  const item = element("li", {}, element("span", { class: "name" }, path), element("span", { class: "dim" }, bytes(size)), remove);
  item.path = path;
  byId("inputs").append(item);
}

function removeInput(path) {
  inputs.delete(path);
  for (const item of [...byId("inputs").children]) if (item.path === path) item.remove();
}

async function upload(files) {
  for (const file of files) {
    say(`Uploading ${file.name}…`);
    try {
      const stored = await uploadFile(file);
      addInput(stored.filename, stored.file_id, stored.size_bytes);
      say("");
    } catch (error) {
      say(error.message, "bad");
    }
  }
}

// --- the page -------------------------------------------------------------------------------

byId("run").addEventListener("click", run);
byId("stop").addEventListener("click", () => running?.abort());
byId("clear").addEventListener("click", clear);
byId("choose").addEventListener("click", () => byId("upload").click());
byId("upload").addEventListener("change", async (event) => {
  await upload([...event.target.files]);
  event.target.value = "";
});
for (const name of ["dragover", "dragleave", "drop"]) {
  byId("drop").addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") upload([...event.dataTransfer.files]);
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  run();
});
document.addEventListener("key-needed", () => (byId("key-form").hidden = false));
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  byId("key-form").hidden = true;
});
for (const name of Object.keys(EXAMPLES)) byId("example").append(element("option", { value: name }, name));
byId("example").addEventListener("change", (event) => {
  if (!event.target.value) return;
  editor.set(EXAMPLES[event.target.value]);
  event.target.value = "";
  byId("code").focus();
});
editor.set(EXAMPLES["A chart"]);
document.documentElement.dataset.ready = "yes";
