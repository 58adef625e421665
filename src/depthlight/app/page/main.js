// The page: what is given goes to the server or to the browser's own network, and what comes back is shown.
//
// A result is { width, height, quantity: "disparity" | "inverse depth" | "depth", values, before, depth (m),
// confidence, valid: Float32Array or null, rig or null, facts, doubt, findings, files: [{ name, bytes, get() }],
// left, right, given: { kind, files, fields } }.

import { Cloud } from "./cloud.js";
import { byId, make, save, size } from "./dom.js";
import { Inputs, pixels } from "./inputs.js";
import { computeHere, localCard } from "./local.js";
import { Refiner } from "./refine.js";
import { readCalibration, rigOf, writeCalibration } from "./rig.js";
import { Server } from "./server.js";
import { Viewer } from "./viewer.js";

const server = new Server();
const viewer = new Viewer();
const cloud = new Cloud();
const inputs = new Inputs(ready);
const refiner = new Refiner(server, (refined) => show({ ...result, ...refined }));
let offered = null; // what the server offers
let card = null; // the network beside the page
let result = null;
let running = null; // AbortController

const radio = (name) => document.querySelector(`[name=${name}]:checked`).value;
const onServer = () => byId("where").value === "server";

async function start() {
  byId("run").addEventListener("click", run);
  byId("cancel").addEventListener("click", () => running?.abort());
  byId("where").addEventListener("change", ready);
  byId("model").addEventListener("change", ready);
  byId("token").addEventListener("change", connect);
  byId("confidence").addEventListener("input", filter);
  byId("refine").addEventListener("click", () => refiner.run(result.given.files, result.given.fields));
  for (const name of ["view", "style"]) {
    for (const choice of document.getElementsByName(name)) choice.addEventListener("change", look);
  }
  card = await localCard();
  await Promise.all([connect(), samples()]);
}

/** Ask the server what it offers, if there is one. */
async function connect() {
  server.token = byId("token").value.trim();
  try {
    offered = await server.models();
    say("");
  } catch (error) {
    byId("token-field").hidden = false;
    say(error.message);
  }
  byId("where").replaceChildren(
    ...(offered ? [make("option", { value: "server" }, "The server")] : []),
    ...(card ? [make("option", { value: "browser" }, "This browser; nothing is sent")] : []),
  );
  ready();
}

async function samples() {
  const answer = await fetch("samples/samples.json").catch(() => null);
  const { pairs } = answer?.ok ? await answer.json() : { pairs: [] };
  const button = (name) => {
    const picture = make("img", { src: `samples/${name}/left.webp`, alt: "", width: 120, height: 78 });
    const made = make("button", { type: "button", className: "sample" }, picture, `Sample: ${name}`);
    made.addEventListener("click", () => take(name));
    return made;
  };
  byId("samples").replaceChildren(...pairs.map(button));
}

/** Give a sample as if it had been dropped. */
async function take(name) {
  const file = async (part) => new File([await (await fetch(`samples/${name}/${part}`)).blob()], part);
  const [left, right, calib] = await Promise.all(["left.webp", "right.webp", "calib.txt"].map(file));
  const chosen = new DataTransfer();
  if (inputs.kind === "image") {
    inputs.set("image", { image: left });
  } else {
    chosen.items.add(calib);
    inputs.set("pair", { left, right });
  }
  byId("calib").files = chosen.files;
}

/** Show what can be done with what is given. */
function ready() {
  const mono = inputs.kind === "image";
  const names = (onServer() && offered?.[mono ? "mono" : "stereo"]) || [];
  if ([...byId("model").options].map((option) => option.value).join() !== names.join()) {
    byId("model").replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  }
  byId("model-field").hidden = !names.length;
  byId("metres").hidden = mono;
  const able = onServer() ? names.length > 0 : Boolean(card) && !mono;
  byId("run").disabled = !able || !inputs.complete || Boolean(running);
  byId("refine-form").hidden = !(onServer() && offered.torch && result?.given.kind !== "side_by_side");
  byId("refine-unable").hidden = !byId("refine-form").hidden;
  byId("run").textContent = mono ? "Estimate depth" : "Compute disparity";
  const lacking = mono ? "Photos need a server with a mono model (depthlight app --mono NAME)." : "No network is here.";
  byId("able").textContent = able || !(card || offered) ? "" : lacking;
}

/** The calibration given: { file, rig }, each null where there is none. */
async function calibration({ width, height }) {
  const [file] = byId("calib").files;
  if (file) return { file, rig: onServer() ? null : readCalibration(await file.text()) };
  const [focal, baseline, doffs] = ["focal", "baseline", "doffs"].map((id) => byId(id).valueAsNumber);
  if (!(focal > 0 && baseline > 0)) return { file: null, rig: null };
  const rig = rigOf(focal, baseline / 1000, doffs || 0, width, height);
  return { file: new File([writeCalibration(rig)], "calib.txt"), rig };
}

async function run() {
  running = new AbortController();
  busy(true);
  try {
    const views = await inputs.views();
    const found = onServer() ? await askServer(views, running.signal) : await computeLocally(views, running.signal);
    const fits = (view) => (view?.width === found.width && view.height === found.height ? view : null);
    const calib = inputs.kind === "image" ? null : (await calibration(found)).file;
    const fields = { calib, model: onServer() ? byId("model").value : "" };
    const given = { kind: inputs.kind, files: inputs.files, fields };
    show({ ...found, given, left: fits(views.left), right: fits(views.right) });
    say(`Done in ${found.facts.seconds.toFixed(1)} s with ${found.facts.model} on ${found.facts.backend ?? "torch"}.`);
  } catch (error) {
    say(error.name === "AbortError" ? "Cancelled." : error.message);
  } finally {
    running = null;
    busy(false);
  }
}

async function askServer(views, signal) {
  say("Computing on the server");
  const model = byId("model").value;
  if (inputs.kind === "image") return server.result(await server.compute("mono", inputs.files, { model }, signal));
  // only a picture that the browser can read tells the size that three typed numbers are for
  const { file } = views.left || byId("calib").files.length ? await calibration(views.left ?? {}) : { file: null };
  const doctor = byId("doctor").checked;
  return server.result(await server.compute("stereo", inputs.files, { model, calib: file, doctor }, signal));
}

async function computeLocally(views, signal) {
  if (!views.left || !views.right) throw new Error("The browser reads PNG, JPEG and WebP; a server reads more.");
  const { rig } = await calibration(views.left);
  return computeHere(pixels(views.left), pixels(views.right), rig, card, say, signal);
}

function busy(isBusy) {
  byId("cancel").hidden = !isBusy;
  byId("work").hidden = !isBusy;
  ready();
}

const say = (text) => (byId("status").textContent = text);

/** Put a result on the page. */
function show(found) {
  result = found;
  byId("result").hidden = false;
  byId("confidence-field").hidden = !found.confidence;
  byId("wiggle-choice").hidden = !(found.left && found.right);
  byId("quantity").textContent = found.quantity;
  const said = found.doubt ? [make("li", { className: "warning" }, found.doubt)] : [];
  for (const { severity, says, hint } of found.findings ?? []) {
    said.push(make("li", { className: severity }, `${severity}: ${says}${hint ? ` ${hint}` : ""}`));
  }
  if (found.findings && !found.findings.length) said.push(make("li", {}, "The doctor found nothing wrong."));
  byId("findings").replaceChildren(...said);
  byId("files").replaceChildren(...found.files.map(fileEntry));
  if (document.querySelector("[name=view]:checked").closest("label").hidden) byId("view-map").checked = true;
  look();
}

function fileEntry(file) {
  const button = make("button", { type: "button", className: "link" }, file.name);
  button.addEventListener("click", async () => save(await file.get(), file.name));
  return make("li", {}, button, ` ${size(file.bytes)}`);
}

/** The view that is chosen. */
async function look() {
  const view = radio("view");
  byId("flat").hidden = view === "space";
  byId("deep").hidden = view !== "space";
  byId("wiper-field").hidden = view !== "wiper";
  viewer.show(result, view);
  if (view === "space") await cloud.show(result, radio("style")).catch((error) => say(`No 3-D view: ${error.message}`));
}

function filter() {
  byId("confidence-value").textContent = (byId("confidence").value / 100).toFixed(2);
  if (radio("view") === "space") look();
  else viewer.repaint();
}

start();
