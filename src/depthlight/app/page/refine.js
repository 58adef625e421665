// The panel of a refinement: start, progress with an intermediate picture, cancel.

import { byId } from "./dom.js";
import { sentence } from "./server.js";

export class Refiner {
  #job = null;

  /** `server` computes; `done(result)` takes what came out. */
  constructor(server, done) {
    this.server = server;
    this.done = done;
    byId("refine-cancel").addEventListener("click", () => this.cancel());
  }

  /** Refine these files; `fields` are those of the API. */
  async run(files, fields) {
    this.#busy(true);
    try {
      const steps = byId("steps").value;
      const job = await this.server.refine(files, { ...fields, steps }, (told) => this.#tell(told));
      if (job.state === "failed") throw new Error(sentence(job.error));
      if (job.state === "done") this.done(await this.server.result(job));
      byId("refine-state").textContent = job.state === "done" ? "Refined." : "Cancelled.";
    } catch (error) {
      byId("refine-state").textContent = error.message;
    } finally {
      this.#job = null;
      this.#busy(false);
    }
  }

  /** End what is under way; the stream of events then ends as well. */
  async cancel() {
    if (this.#job) await this.server.cancel(this.#job);
  }

  #tell(job) {
    this.#job = job;
    const { progress } = job;
    if (!progress) {
      byId("refine-state").textContent = job.state === "queued" ? `Waiting behind ${job.before ?? 0}` : "Starting";
      return;
    }
    byId("refine-bar").max = progress.steps;
    byId("refine-bar").value = progress.step;
    const loss = progress.losses.loss;
    const told = loss === undefined ? "" : `, loss ${loss.toPrecision(4)}`;
    byId("refine-state").textContent = `Step ${progress.step} of ${progress.steps}${told}`;
    if (progress.picture && job.state === "running") this.#picture(job);
  }

  async #picture(job) {
    if (this.loading) return;
    this.loading = true;
    try {
      const blob = await this.server.file(job, job.progress.picture);
      const image = byId("refine-picture");
      URL.revokeObjectURL(image.src);
      image.src = URL.createObjectURL(blob);
      image.hidden = false;
    } catch {
      // the job has ended meanwhile, and its picture with it
    } finally {
      this.loading = false;
    }
  }

  #busy(busy) {
    byId("refine-progress").hidden = !busy && !byId("refine-state").textContent;
    byId("refine-cancel").hidden = byId("refine-bar").hidden = !busy;
    byId("refine").disabled = busy;
    byId("refine-picture").hidden = true;
    if (busy) byId("refine-bar").removeAttribute("value");
  }
}
