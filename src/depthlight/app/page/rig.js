// Calibration and geometry: from pixels of disparity to metres.
// A rig is { fx, fy, cx, cy, baseline (m), doffs (px), width, height }; x to the right, y down, z away from the camera.

/** Metres along z, or NaN where the disparity has none. */
export function depthOf(disparity, rig) {
  const sum = disparity + rig.doffs;
  return sum > 0 ? (rig.fx * rig.baseline) / sum : NaN;
}

/** The point seen at pixel (x, y) at this depth: [x, y, z] in its unit. */
export function pointOf(x, y, z, rig) {
  return [((x - rig.cx) * z) / rig.fx, ((y - rig.cy) * z) / rig.fy, z];
}

/** The straight distance between two points. */
export function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

/** A rig from three numbers a person knows; the principal point is the centre. */
export function rigOf(focal, baseline, doffs, width, height) {
  return { fx: focal, fy: focal, cx: (width - 1) / 2, cy: (height - 1) / 2, baseline, doffs, width, height };
}

/** The rig in a Middlebury calib.txt. */
export function readCalibration(text) {
  const lines = text.split("\n").filter((line) => line.includes("="));
  const values = Object.fromEntries(lines.map((line) => line.split(/=(.*)/s, 2).map((part) => part.trim())));
  const camera = (values.cam0 ?? "").match(/-?[\d.]+(e[-+]?\d+)?/gi)?.map(Number) ?? [];
  const [baseline, width, height] = ["baseline", "width", "height"].map((key) => Number(values[key]));
  if (camera.length !== 9 || !(baseline > 0 && width > 0 && height > 0)) {
    throw new Error("Without a server only Middlebury's calib.txt is read (cam0, doffs, baseline, width, height).");
  }
  const doffs = Number(values.doffs ?? 0);
  const [fx, , cx, , fy, cy] = camera;
  return { fx, fy, cx, cy, baseline: baseline / 1000, doffs, width, height };
}

/** The same as a Middlebury calib.txt, for the server. */
export function writeCalibration(rig) {
  const camera = (cx) => `[${rig.fx} 0 ${cx}; 0 ${rig.fy} ${rig.cy}; 0 0 1]`;
  const lines = [`cam0=${camera(rig.cx)}`, `cam1=${camera(rig.cx + rig.doffs)}`, `doffs=${rig.doffs}`];
  return [...lines, `baseline=${rig.baseline * 1000}`, `width=${rig.width}`, `height=${rig.height}`, ""].join("\n");
}

/** A rig for showing what has no metres: a usual field of view, and depths near 1. */
export function guessedRig(values, width, height) {
  const sorted = Float32Array.from(values.filter((value) => value > 0)).sort();
  const middle = sorted.length ? sorted[sorted.length >> 1] : 1;
  const rig = rigOf(0.9 * Math.max(width, height), 1, 0, width, height);
  return { ...rig, baseline: middle / rig.fx };
}
