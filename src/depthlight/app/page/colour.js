// Numbers as colours.

// Seventeen steps of Turbo (A. Mikhailov, Google, 2019): near is red, far is blue. Between them it is linear.
const STEPS =
  "30123b,4040a2,466be3,4294ff,28bceb,18ddc2,32f298,6dfe62,a4fc3c," +
  "cbed34,ecd13a,fdae35,fb8122,ec530f,d23105,ac1701,7a0403";
const HIDDEN = [38, 38, 42, 255];

const TURBO = (() => {
  const steps = STEPS.split(",").map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, level) => {
    const at = (level / 255) * (steps.length - 1);
    const low = Math.min(Math.floor(at), steps.length - 2);
    const mixed = steps[low].map((value, band) => Math.round(value + (at - low) * (steps[low + 1][band] - value)));
    return [...mixed, 255];
  });
})();

/** The range between the 1st and the 99th percentile, never empty. */
export function robustRange(values) {
  const step = Math.max(1, Math.floor(values.length / 50_000));
  const sorted = values.filter((value, at) => at % step === 0 && Number.isFinite(value)).sort();
  if (!sorted.length) return [0, 1];
  const [low, high] = [0.01, 0.99].map((share) => sorted[Math.round(share * (sorted.length - 1))]);
  return high - low > 1e-6 * Math.max(1, Math.abs(high)) ? [low, high] : [low - 0.5, low + 0.5];
}

/** Values as ImageData; `shown(at)` says which pixels are drawn. */
export function paint(values, width, height, [low, high], shown) {
  const image = new ImageData(width, height);
  const { data } = image;
  for (let at = 0; at < values.length; at++) {
    const level = Math.min(255, Math.max(0, Math.round((255 * (values[at] - low)) / (high - low))));
    const colour = shown(at) && Number.isFinite(values[at]) ? TURBO[level] : HIDDEN;
    data.set(colour, 4 * at);
  }
  return image;
}

/** Draw the scale itself, left to right. */
export function paintScale(sheet) {
  const ramp = Float32Array.from({ length: 256 }, (_, level) => level);
  sheet.width = 256;
  sheet.height = 1;
  sheet.getContext("2d").putImageData(paint(ramp, 256, 1, [0, 255], () => true), 0, 0);
}
