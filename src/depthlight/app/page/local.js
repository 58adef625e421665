// Stereo without a server: the bundled network in a worker, and the files of its result.

import { writeDisparityPng, writePfm, writePly } from "./files.js";
import { writeNpy } from "./npy.js";
import { depthOf } from "./rig.js";

let worker = null;

/** The card of the network beside the page, or null where there is none. */
export async function localCard() {
  const answer = await fetch("model/card.json").catch(() => null);
  return answer?.ok ? answer.json() : null;
}

/** Disparity of two ImageData; `tell(text)` hears what happens. Resolves to a result (see main.js). */
export async function computeHere(left, right, rig, card, tell, signal) {
  const { width, height } = left;
  if (rig && (rig.width !== width || rig.height !== height)) {
    throw new Error(`The calibration is for ${rig.width}×${rig.height}, and the picture is ${width}×${height}.`);
  }
  const found = await ask({ left, right, max: card.max_disp }, tell, signal);
  const { disparity: values, confidence, valid, runtime, seconds } = found;
  const depth = rig && values.map((value, at) => (valid[at] ? depthOf(value, rig) || 0 : 0));
  const facts = { model: card.name, weights_sha256: card.weights_sha256, backend: runtime, seconds, width, height };
  const files = await filesOf({ values, depth, rig, width, height, rgba: left.data, facts });
  return {
    width, height, quantity: "disparity", values, depth, confidence, valid, facts, files,
    rig, before: null, doubt: null, findings: null,
  };
}

async function filesOf({ values, depth, rig, width, height, rgba, facts }) {
  const shape = [height, width];
  const made = {
    "disparity.npy": writeNpy(values, shape),
    "disparity.pfm": writePfm(values, width, height),
    "disparity.png": await writeDisparityPng(values, width, height),
    "depth.npy": depth && writeNpy(depth, shape),
    "depth.pfm": depth && writePfm(depth, width, height),
    "cloud.ply": depth && writePly(depth, rgba, rig, width, height),
    "result.json": new Blob([JSON.stringify(facts, null, 2)]),
  };
  const whole = Object.entries(made).filter(([, blob]) => blob);
  return whole.map(([name, blob]) => ({ name, bytes: blob.size, get: async () => blob }));
}

function ask(message, tell, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      worker?.terminate();
      worker = null;
      reject(new DOMException("Cancelled", "AbortError"));
    };
    signal.addEventListener("abort", stop, { once: true });
    worker ??= new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    worker.onerror = (event) => reject(new Error(event.message || "The worker did not start."));
    worker.onmessage = ({ data }) => {
      if (data.status) return tell(data.status);
      signal.removeEventListener("abort", stop);
      return data.error ? reject(new Error(data.error)) : resolve(data);
    };
    worker.postMessage(message);
  });
}
