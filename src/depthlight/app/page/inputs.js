// What the person gives: files for the slots of a kind, by choosing, dropping or taking a sample.

import { byId, canvas, make } from "./dom.js";

const SLOTS = {
  pair: { left: "Left view", right: "Right view" },
  side_by_side: { side_by_side: "Side-by-side image" },
  image: { image: "Photo" },
};

export class Inputs {
  files = {}; // slot → File

  /** `changed()` is called whenever the files or their kind are others. */
  constructor(changed) {
    this.changed = () => {};
    for (const radio of document.getElementsByName("kind")) radio.addEventListener("change", () => this.#lay({}));
    const drop = byId("drop");
    for (const name of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", name === "dragover");
        if (name === "drop") this.take([...event.dataTransfer.files]);
      });
    }
    this.#lay({});
    this.changed = changed;
  }

  get kind() {
    return document.querySelector("[name=kind]:checked").value;
  }

  get complete() {
    return Object.keys(SLOTS[this.kind]).every((slot) => this.files[slot]);
  }

  /** Give files a place: two are a pair, one goes to the first free slot. */
  take(files) {
    if (files.length > 1) {
      const isRight = (file) => /right|(^|[^a-z])r([^a-z]|$)|im1/i.test(file.name);
      const [left, right] = files.slice(0, 2).sort((a, b) => isRight(a) - isRight(b) || a.name.localeCompare(b.name));
      this.set("pair", { left, right });
    } else if (files.length) {
      const slots = Object.keys(SLOTS[this.kind]);
      this.#lay({ ...this.files, [slots.find((slot) => !this.files[slot]) ?? slots[0]]: files[0] });
    }
  }

  /** These files, of this kind. */
  set(kind, files) {
    document.querySelector(`[name=kind][value=${kind}]`).checked = true;
    this.#lay(files);
  }

  #lay(files) {
    this.files = files;
    const slots = Object.entries(SLOTS[this.kind]).map(([slot, label]) => {
      const input = make("input", { type: "file", accept: "image/*,.tif,.tiff,.ppm,.pgm,.heic", id: `file-${slot}` });
      input.addEventListener("change", () => input.files[0] && this.#lay({ ...this.files, [slot]: input.files[0] }));
      const caption = make("span", {}, files[slot] ? `${label}: ${files[slot].name}` : `${label}: choose or drop`);
      const place = make("label", { className: "slot" }, caption, input);
      if (files[slot]) place.prepend(make("img", { src: URL.createObjectURL(files[slot]), alt: "" }));
      return place;
    });
    byId("slots").replaceChildren(...slots);
    this.changed();
  }

  /** The views as bitmaps, null where the browser cannot read a file: { left, right }. */
  async views() {
    if (this.kind === "pair") return { left: await decode(this.files.left), right: await decode(this.files.right) };
    const whole = await decode(this.files[this.kind]);
    if (this.kind === "image" || !whole) return { left: whole, right: null };
    if (whole.width % 2) throw new Error("A side-by-side image needs an even width.");
    const half = whole.width / 2;
    const part = (from) => createImageBitmap(whole, from, 0, half, whole.height);
    return { left: await part(0), right: await part(half) };
  }
}

/** A file as a bitmap, turned as its EXIF says, its numbers as they are stored. */
function decode(file) {
  return createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" }).catch(() => null);
}

/** The pixels of a bitmap: ImageData. */
export function pixels(bitmap) {
  const [, pen] = canvas(bitmap.width, bitmap.height);
  pen.drawImage(bitmap, 0, 0);
  return pen.getImageData(0, 0, bitmap.width, bitmap.height);
}
