// SECURITY: a picture is shown only as what its own first bytes say it is, and only in formats that hold nothing but
// pixels. SVG and HTML can carry scripts and are files to save, whatever they are called.

const FORMATS = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
];
const LARGEST_BYTES = 20 * 2 ** 20;
const NAMED = /\.(png|jpe?g|gif|webp)$/i;

/** Worth a download, to look at its bytes. */
export const mayBePicture = (file) => NAMED.test(file.path) && file.size_bytes <= LARGEST_BYTES;

/** The same bytes as a picture, or null if they are none. */
export async function asPicture(blob) {
  const head = new Uint8Array(await blob.slice(0, 16).arrayBuffer());
  const type = rasterType(head);
  return type ? new Blob([blob], { type }) : null;
}

export function rasterType(head) {
  const text = (from, to) => String.fromCharCode(...head.slice(from, to));
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return "image/webp";
  return FORMATS.find(([, start]) => start.every((byte, place) => head[place] === byte))?.[0] ?? null;
}
