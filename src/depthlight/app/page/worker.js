// A worker of its own for the network, so that the page stays alive: onnxruntime on WebGPU where there is one, else on
// WebAssembly. Hears { left, right: ImageData, max }, says { status } any number of times, then { disparity,
// confidence, runtime, seconds } or { error }.

const MULTIPLE = 32; // px: what the network's sides must be multiples of
const MOST_PIXELS = 3.5e6; // about 680 bytes each: WebAssembly has 4 GB

let session = null;

addEventListener("message", async ({ data }) => {
  try {
    postMessage(await run(data));
  } catch (error) {
    session = null;
    postMessage({ error: String(error.message ?? error) });
  }
});

async function run({ left, right, max }) {
  const { width, height } = left;
  if (right.width !== width || right.height !== height) throw new Error("The two views differ in size.");
  if (width * height > MOST_PIXELS) {
    throw new Error(`${width}×${height} is too much for the browser. Take at most 3.5 megapixels, or a server.`);
  }
  session ??= (await hasGpu()) ? await open("WebGPU").catch(() => open("WebAssembly")) : await open("WebAssembly");
  const begun = performance.now();
  const found = await infer(left, right);
  const seconds = (performance.now() - begun) / 1000;
  const single = [left, right].some(isOneColour);
  const [disparity, confidence] = [found.disparity, found.confidence].map((map) => fullSize(map, found, width, height));
  if (!disparity.every(Number.isFinite)) throw new Error("The network's answer is not finite.");
  if (single) confidence.fill(0);
  const valid = disparity.map((value, at) => Number(value < max - 8 && (at % width) - value >= -0.5));
  return { disparity, confidence, valid, runtime: session.runtime, seconds };
}

/** Whether there is a graphics card; one that is played by the processor is slower than WebAssembly. */
async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info?.isFallbackAdapter;
}

/** The network on a runtime; `onCpu` names nodes that WebGPU leaves to the processor. */
async function open(runtime, onCpu = []) {
  postMessage({ status: "Loading the network and its runtime" });
  const gpu = runtime === "WebGPU";
  const ort = await import(gpu ? "./vendor/ort.webgpu.min.mjs" : "./vendor/ort.wasm.min.mjs");
  // several threads need a page that is isolated from others, which takes headers that a plain static host lacks
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  const model = new URL("./model/stereo.onnx", import.meta.url).href;
  const forced = onCpu.length ? { forceCpuNodeNames: onCpu } : {}; // an empty list is refused
  const provider = gpu ? { name: "webgpu", ...forced } : "wasm";
  const network = await ort.InferenceSession.create(model, { executionProviders: [provider], logSeverityLevel: 3 });
  postMessage({ status: `Computing on ${runtime}` });
  return { ort, runtime, network, onCpu };
}

/** Run the network. A node that WebGPU refuses goes to the processor; if that is not it, everything to WebAssembly. */
async function infer(left, right) {
  const { ort, network, runtime, onCpu } = session;
  const tensor = ({ data, width, height }) => {
    const [wide, high] = [width, height].map((side) => Math.ceil(side / MULTIPLE) * MULTIPLE);
    return new ort.Tensor("float32", planes(data, width, height, wide, high), [1, 3, high, wide]);
  };
  try {
    return await network.run({ left: tensor(left), right: tensor(right) });
  } catch (error) {
    if (runtime !== "WebGPU") throw error;
    const node = /node\. Name:'(.+?)(_token_\d+)?'/.exec(error.message)?.[1];
    await network.release();
    session = node && !onCpu.includes(node) ? await open(runtime, [...onCpu, node]) : await open("WebAssembly");
    return infer(left, right);
  }
}

/** RGBA bytes as three planes of floats, the last row and column repeated to the wanted size. */
function planes(data, width, height, wide, high) {
  const values = new Float32Array(3 * wide * high);
  for (let band = 0, to = 0; band < 3; band++) {
    for (let y = 0; y < high; y++) {
      const row = Math.min(y, height - 1) * width;
      for (let x = 0; x < wide; x++, to++) values[to] = data[4 * (row + Math.min(x, width - 1)) + band];
    }
  }
  return values;
}

/** A map enlarged to the disparity's size (confidence comes at a quarter), without what was added to the picture. */
function fullSize({ data, dims }, { disparity }, width, height) {
  const [high, wide] = dims.slice(-2);
  const scale = wide / disparity.dims.at(-1);
  const at = (index, count) => {
    const place = Math.min(count - 1, Math.max(0, (index + 0.5) * scale - 0.5));
    const low = Math.floor(place);
    return [low, Math.min(count - 1, low + 1), place - low];
  };
  const columns = Array.from({ length: width }, (_, x) => at(x, wide));
  const values = new Float32Array(width * height);
  for (let y = 0, to = 0; y < height; y++) {
    const [up, down, share] = at(y, high);
    for (const [left, right, part] of columns) {
      const above = data[up * wide + left] * (1 - part) + data[up * wide + right] * part;
      const below = data[down * wide + left] * (1 - part) + data[down * wide + right] * part;
      values[to++] = above * (1 - share) + below * share;
    }
  }
  return values;
}

/** A view of one colour says nothing about depth. */
function isOneColour({ data }) {
  const pixels = new Uint32Array(data.buffer);
  return pixels.every((pixel) => pixel === pixels[0]);
}
