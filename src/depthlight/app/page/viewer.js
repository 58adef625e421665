// The picture of a result: the map in colours, the wiper, the wiggle, the read-out under the pointer, two points.

import { paint, paintScale, robustRange } from "./colour.js";
import { byId, canvas } from "./dom.js";
import { distance, pointOf } from "./rig.js";

const UNITS = { disparity: " px", depth: " m", "inverse depth": "" };
const WIGGLE = 350; // ms a view is shown

export class Viewer {
  #result = null;
  #timer = 0;
  #points = []; // pixels of the two points measured
  #cursor = null;

  constructor() {
    this.sheet = byId("picture");
    this.pen = this.sheet.getContext("2d");
    this.sheet.addEventListener("pointermove", (event) => this.#point(this.#under(event)));
    this.sheet.addEventListener("click", (event) => this.#mark(this.#under(event)));
    this.sheet.addEventListener("keydown", (event) => this.#key(event));
    byId("wiper").addEventListener("input", () => this.draw());
    byId("unmark").addEventListener("click", () => this.#measure([]));
    paintScale(byId("scale"));
  }

  /** Show a result (see main.js) in a view: map, wiper or wiggle. */
  show(result, view) {
    if (result !== this.#result) {
      this.#result = result;
      [this.sheet.width, this.sheet.height] = [result.width, result.height];
      this.#cursor = null;
      byId("readout").textContent = "Point at the picture, or focus it and use the arrow keys.";
      this.range = robustRange(result.values);
      const unit = UNITS[result.quantity];
      byId("low").textContent = `${this.range[0].toPrecision(3)}${unit}`;
      byId("high").textContent = `${this.range[1].toPrecision(3)}${unit}`;
      this.sheet.setAttribute("aria-label", `${result.quantity} map, ${result.width} by ${result.height} pixels`);
      this.#measure([]);
    }
    this.view = view;
    clearInterval(this.#timer);
    this.flipped = false;
    if (view === "wiggle") {
      this.#timer = setInterval(() => {
        this.flipped = !this.flipped;
        this.draw();
      }, WIGGLE);
    }
    this.repaint();
  }

  /** Paint the maps anew, for another confidence asked for. */
  repaint() {
    const { width, height, values, before } = this.#result;
    const shown = shownBy(this.#result);
    this.map = sheetOf(paint(values, width, height, this.range, shown));
    this.before = before && sheetOf(paint(before, width, height, this.range, () => true));
    this.draw();
  }

  /** Draw what is painted. */
  draw() {
    const { left, right, width, height } = this.#result;
    if (this.view === "wiggle") {
      this.pen.drawImage(this.flipped ? right : left, 0, 0, width, height);
      return;
    }
    this.pen.drawImage(this.map, 0, 0);
    if (this.view === "wiper") {
      const split = Math.round((width * byId("wiper").value) / 100);
      const behind = this.before ?? left;
      if (behind && split) this.pen.drawImage(behind, 0, 0, split, height, 0, 0, split, height);
      this.pen.fillStyle = "#fff";
      this.pen.fillRect(split - 1, 0, 2, height);
    }
    this.#drawPoints();
  }

  /** What is known of a pixel, as text. */
  tell([x, y]) {
    const { width, values, before, depth, confidence, valid, quantity } = this.#result;
    const at = y * width + x;
    const parts = [`${quantity} ${values[at].toFixed(2)}${UNITS[quantity]}`];
    if (before) parts.push(`before ${before[at].toFixed(2)}${UNITS[quantity]}`);
    if (depth && quantity !== "depth") parts.push(depth[at] > 0 ? `${depth[at].toFixed(3)} m` : "no depth");
    if (confidence) parts.push(`confidence ${confidence[at].toFixed(2)}`);
    if (valid && !valid[at]) parts.push("not valid");
    return `x ${x}, y ${y}: ${parts.join(", ")}`;
  }

  #under(event) {
    const box = this.sheet.getBoundingClientRect();
    const at = (offset, length, count) => Math.min(count - 1, Math.max(0, Math.floor((offset / length) * count)));
    const x = at(event.clientX - box.left, box.width, this.sheet.width);
    return [x, at(event.clientY - box.top, box.height, this.sheet.height)];
  }

  #point(pixel) {
    this.#cursor = pixel;
    byId("readout").textContent = this.tell(pixel);
  }

  #key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const { width, height } = this.#result;
    const [x, y] = this.#cursor ?? [width >> 1, height >> 1];
    if (event.key in moves) {
      const step = event.shiftKey ? 10 : 1;
      const to = (value, move, count) => Math.min(count - 1, Math.max(0, value + step * move));
      this.#point([to(x, moves[event.key][0], width), to(y, moves[event.key][1], height)]);
      this.draw();
      this.#cross(this.#cursor, "#fff");
    } else if (event.key === "Enter" || event.key === " ") {
      this.#mark([x, y]);
    } else {
      return;
    }
    event.preventDefault();
  }

  #mark(pixel) {
    this.#point(pixel);
    this.#measure(this.#points.length === 2 ? [pixel] : [...this.#points, pixel]);
  }

  #measure(points) {
    this.#points = points;
    byId("unmark").hidden = !points.length;
    byId("measured").textContent = points.length ? this.#span() : "";
    if (this.map) this.draw();
  }

  /** What lies between the two points, as text. */
  #span() {
    if (this.#points.length === 1) return "Choose a second point to measure to.";
    const { width, values, depth, rig, quantity } = this.#result;
    const [a, b] = this.#points.map(([x, y]) => y * width + x);
    if (!rig) {
      const change = values[b] - values[a];
      return `Difference: ${change.toFixed(2)}${UNITS[quantity]}. A calibration gives metres.`;
    }
    if (!(depth?.[a] > 0 && depth[b] > 0)) return "One of the points has no depth.";
    const [from, to] = this.#points.map(([x, y]) => pointOf(x, y, depth[y * width + x], rig));
    return `Distance: ${distance(from, to).toFixed(3)} m`;
  }

  #drawPoints() {
    this.#points.forEach((pixel) => this.#cross(pixel, "#ff2bd6"));
    if (this.#points.length < 2) return;
    this.pen.strokeStyle = "#ff2bd6";
    this.pen.lineWidth = Math.max(2, this.sheet.width / 250);
    this.pen.beginPath();
    this.#points.forEach(([x, y]) => this.pen.lineTo(x + 0.5, y + 0.5));
    this.pen.stroke();
  }

  #cross([x, y], colour) {
    const reach = Math.max(5, this.sheet.width / 80);
    const unit = Math.max(1, this.sheet.width / 640);
    for (const [style, thick] of [["#000", 6 * unit], [colour, 3 * unit]]) {
      this.pen.fillStyle = style;
      this.pen.fillRect(x + 0.5 - reach, y + 0.5 - thick / 2, 2 * reach, thick);
      this.pen.fillRect(x + 0.5 - thick / 2, y + 0.5 - reach, thick, 2 * reach);
    }
  }
}

/** Which pixels of a result the confidence slider leaves. */
export function shownBy({ confidence }) {
  const least = Number(byId("confidence").value) / 100;
  return confidence && least > 0 ? (at) => confidence[at] >= least : () => true;
}

function sheetOf(image) {
  const [sheet, pen] = canvas(image.width, image.height);
  pen.putImageData(image, 0, 0);
  return sheet;
}
