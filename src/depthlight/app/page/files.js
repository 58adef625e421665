// Files made in the browser, for results that no server has written: PFM, 16-bit PNG, PLY.

import { pointOf } from "./rig.js";

/** PFM: float32, rows from the bottom. */
export function writePfm(values, width, height) {
  const rows = [];
  for (let y = height - 1; y >= 0; y--) rows.push(values.slice(y * width, (y + 1) * width));
  return new Blob([`Pf\n${width} ${height}\n-1.0\n`, ...rows]);
}

/** Disparity as 16-bit PNG by KITTI's convention: round(256 d), 0 = none. Null where it does not fit. */
export async function writeDisparityPng(values, width, height) {
  const raw = new DataView(new ArrayBuffer(height * (1 + 2 * width))); // each row begins with its filter, 0
  for (let y = 0, at = 0; y < height; y++) {
    at += 1;
    for (let x = 0; x < width; x++, at += 2) {
      const level = Math.round(values[y * width + x] * 256);
      if (level > 65535 || level < 0) return null;
      raw.setUint16(at, level);
    }
  }
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 16); // bits; the rest is 0: gray
  const packed = new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"));
  const pixels = new Uint8Array(await new Response(packed).arrayBuffer());
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  const parts = [signature, chunk("IHDR", new Uint8Array(header.buffer)), chunk("IDAT", pixels), chunk("IEND", [])];
  return new Blob(parts, { type: "image/png" });
}

function chunk(name, content) {
  const bytes = new Uint8Array(content.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set([...name].map((c) => c.charCodeAt(0)), 4);
  bytes.set(content, 8);
  let sum = -1; // CRC-32 of name and content
  for (let at = 4; at < content.length + 8; at++) sum = CRC[(sum ^ bytes[at]) & 255] ^ (sum >>> 8);
  view.setUint32(content.length + 8, ~sum);
  return bytes;
}

const CRC = Int32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** A cloud as binary PLY: metres, and the colours of the picture (RGBA bytes). */
export function writePly(depth, rgba, rig, width, height) {
  const known = [...depth.keys()].filter((at) => depth[at] > 0);
  const view = new DataView(new ArrayBuffer(15 * known.length));
  known.forEach((at, index) => {
    const point = pointOf(at % width, Math.floor(at / width), depth[at], rig);
    point.forEach((value, axis) => view.setFloat32(15 * index + 4 * axis, value, true));
    for (let band = 0; band < 3; band++) view.setUint8(15 * index + 12 + band, rgba[4 * at + band]);
  });
  const properties = ["float x", "float y", "float z", "uchar red", "uchar green", "uchar blue"];
  const lines = ["ply", "format binary_little_endian 1.0", `element vertex ${known.length}`];
  return new Blob([[...lines, ...properties.map((text) => `property ${text}`), "end_header", ""].join("\n"), view]);
}
