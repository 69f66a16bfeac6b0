// A textarea that is good enough for a program: numbers, indentation, and a way out for the keyboard.

const INDENT = "    ";

export function makeEditor(area, numbers) {
  let leaving = false; // After Escape the next Tab moves on, or the keyboard would be caught in here.

  const renumber = () => {
    const count = area.value.split("\n").length;
    numbers.textContent = Array.from({ length: count }, (_, index) => index + 1).join("\n");
    numbers.scrollTop = area.scrollTop;
  };
  area.addEventListener("input", renumber);
  area.addEventListener("scroll", () => (numbers.scrollTop = area.scrollTop));
  area.addEventListener("keydown", (event) => {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Tab" && !leaving) {
      event.preventDefault();
      event.shiftKey ? dedent(area) : indent(area);
    } else if (event.key === "Enter") {
      event.preventDefault();
      insert(area, `\n${nextIndent(area)}`);
    }
    leaving = event.key === "Escape";
  });
  return {
    set(text) {
      area.value = text;
      area.setSelectionRange(0, 0);
      area.scrollTop = 0;
      renumber();
    },
  };
}

function insert(area, text) {
  // The one way that keeps the browser's own undo; setRangeText is for where it has been taken away.
  if (!document.execCommand("insertText", false, text)) {
    area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input"));
  }
}

const lineStart = (area) => area.value.lastIndexOf("\n", area.selectionStart - 1) + 1;

function indent(area) {
  if (area.selectionStart === area.selectionEnd) {
    const column = area.selectionStart - lineStart(area);
    insert(area, INDENT.slice(column % INDENT.length));
  } else changeLines(area, (line) => (line ? INDENT + line : line));
}

const dedent = (area) => changeLines(area, (line) => line.replace(/^( {1,4}|\t)/, ""));

function changeLines(area, change) {
  const start = lineStart(area);
  const cursor = area.selectionStart === area.selectionEnd ? area.selectionStart : null;
  const last = area.selectionEnd > start && area.value[area.selectionEnd - 1] === "\n" && cursor === null ? area.selectionEnd - 1 : area.selectionEnd;
  const newline = area.value.indexOf("\n", last);
  const end = newline < 0 ? area.value.length : newline;
  const before = area.value.slice(start, end);
  const after = before.split("\n").map(change).join("\n");
  if (after === before) return;
  area.setSelectionRange(start, end);
  insert(area, after);
  if (cursor === null) area.setSelectionRange(start, start + after.length);
  else area.setSelectionRange(...Array(2).fill(Math.max(start, cursor + after.length - before.length)));
}

function nextIndent(area) {
  const line = area.value.slice(lineStart(area), area.selectionStart);
  return line.match(/^\s*/)[0] + (/:\s*(#.*)?$/.test(line) ? INDENT : "");
}
