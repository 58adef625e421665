// The client of the HTTP API under /v1 (docs/reference/http-api.md).

import { canvas } from "./dom.js";
import { readNpy } from "./npy.js";

const PAIR = { format: "png,npy,pfm,tiff" };
const METRIC = { depth: "npy,png,pfm,tiff", cloud: "ply,pcd,glb", mesh: "true" };

export class Server {
  token = "";

  /** What the server offers, or null where there is none. Throws where it wants a token. */
  async models() {
    const answer = await fetch("v1/models", { headers: this.#headers() }).catch(() => null);
    if (answer?.status === 401) throw new Error("This server wants its token.");
    const isJson = answer?.headers.get("content-type")?.startsWith("application/json");
    return answer?.ok && isJson ? answer.json() : null;
  }

  /** Compute a pair or a photo; resolves to the finished job. */
  async compute(kind, files, { calib, ...fields }, signal) {
    const formats = kind === "mono" ? { format: "png,npy" } : { ...PAIR, ...(calib ? { calib, ...METRIC } : {}) };
    return this.#post(kind, { ...files, ...formats, ...fields }, signal);
  }

  /** Refine; `tell(job)` hears of every change. Resolves to the job once it has ended. */
  async refine(files, fields, tell) {
    let job = await this.#post("refine", { ...files, ...fields });
    tell(job);
    const stream = await this.#get(`${this.#path(job)}/events`);
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return job;
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (data) tell((job = JSON.parse(data.slice(6))));
      }
    }
  }

  /** Cancel a job, and remove what it left. */
  async cancel(job) {
    await fetch(this.#path(job), { method: "DELETE", headers: this.#headers() });
  }

  /** One of a job's files. */
  async file(job, name) {
    const found = job.files.find((file) => file.name === name);
    return found ? (await this.#get(found.url)).blob() : null;
  }

  /** The maps of a finished job, as the page shows them (see main.js). */
  async result(job) {
    const has = (name) => job.files.some((file) => file.name === name);
    const array = async (name) => (has(name) ? readNpy(await (await this.file(job, name)).arrayBuffer()) : {});
    const name = ["after.npy", "disparity.npy", "inverse_depth.npy", "depth.npy"].find(has);
    const { shape, values } = await array(name);
    const { values: depth = null } = await array("depth.npy");
    const { values: before = null } = await array("before.npy");
    const { rig = null } = has("depth.json") ? JSON.parse(await (await this.file(job, "depth.json")).text()) : {};
    const quantity = has("disparity.png") ? "disparity" : name === "depth.npy" ? "depth" : "inverse depth";
    const files = job.files.map((file) => ({ ...file, get: async () => (await this.#get(file.url)).blob() }));
    return {
      width: shape[1], height: shape[0], quantity, values, depth, before, rig, files,
      confidence: await shares(await this.file(job, "confidence.png")),
      valid: await shares(await this.file(job, "valid.png")),
      facts: job.result,
      doubt: job.result.doubt ?? null,
      findings: job.result.doctor?.findings ?? null,
    };
  }

  #path = (job) => `v1/jobs/${encodeURIComponent(job.id)}`;

  #headers() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  async #get(url) {
    return told(await fetch(url, { headers: this.#headers(), cache: "no-store" }));
  }

  async #post(kind, fields, signal) {
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) {
      if (value !== null && value !== undefined && value !== "") body.append(name, value);
    }
    return (await told(await fetch(`v1/${kind}`, { method: "POST", body, headers: this.#headers(), signal }))).json();
  }
}

/** The answer, or its error as one sentence. */
async function told(answer) {
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw new Error(error ? sentence(error) : `The server answered ${answer.status}.`);
}

/** An error of the API as text. */
export function sentence({ what, expected, hint }) {
  return `${what}${expected ? ` (expected ${expected})` : ""}.${hint ? ` ${hint}.` : ""}`;
}

/** A gray picture of shares as numbers in 0..1. */
async function shares(blob) {
  if (!blob) return null;
  const picture = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const [, pen] = canvas(picture.width, picture.height);
  pen.drawImage(picture, 0, 0);
  const { data } = pen.getImageData(0, 0, picture.width, picture.height);
  return Float32Array.from({ length: data.length / 4 }, (_, at) => data[4 * at] / 255);
}
