// NumPy's .npy files of two-dimensional float32 arrays: reading and writing.

/** The array of a file: { shape: [height, width], values: Float32Array }, rows from the top. */
export function readNpy(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0) !== 0x934e554d) throw new Error("not a .npy file");
  const long = view.getUint8(6) > 1;
  const start = long ? 12 + view.getUint32(8, true) : 10 + view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, start - 10));
  const shape = /'shape':\s*\((\d+),\s*(\d+)\)/.exec(header)?.slice(1).map(Number);
  if (!/'descr':\s*'<f4'/.test(header) || !/'fortran_order':\s*False/.test(header) || !shape) {
    throw new Error(`a .npy file of another kind: ${header.slice(0, 80)}`);
  }
  const values = new Float32Array(buffer.slice(start));
  if (values.length !== shape[0] * shape[1]) throw new Error("the .npy file is cut off");
  return { shape, values };
}

/** The bytes of a file with these values. */
export function writeNpy(values, [height, width]) {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${height}, ${width}), }`;
  const header = text.padEnd(117) + "\n"; // 10 bytes before it: the values begin at 128
  const head = new Uint8Array([0x93, ...[..."NUMPY"].map((c) => c.charCodeAt(0)), 1, 0, header.length, 0]);
  return new Blob([head, header, values]);
}
