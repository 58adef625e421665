// The result in three dimensions: points or a mesh in the photo's colours. three.js is loaded when it is needed.

import { byId } from "./dom.js";
import { pixels } from "./inputs.js";
import { depthOf, guessedRig, pointOf } from "./rig.js";
import { shownBy } from "./viewer.js";

const MOST = 300_000; // vertices: more do not look better
const JUMP = 0.03; // change of inverse depth, as a share of the largest, over which no triangle is spanned
const FARTHEST = 6; // times the median depth: beyond it is mostly sky

export class Cloud {
  /** Draw a result as points or mesh. */
  async show(result, style) {
    const { three, scene, camera, controls, render } = (this.stage ??= await stage(byId("space")));
    for (const old of scene.children.splice(0)) old.geometry.dispose();
    const rig = result.rig ?? guessedRig(result.values, result.width, result.height);
    const { step, wide, high, points, colours, depths, middle } = vertices(result, rig);
    const geometry = new three.BufferGeometry();
    geometry.setAttribute("position", new three.BufferAttribute(points, 3));
    geometry.setAttribute("color", new three.BufferAttribute(colours, 3));
    const common = { vertexColors: true };
    if (style === "mesh") {
      geometry.setIndex(new three.BufferAttribute(triangles(depths, wide, high), 1));
      scene.add(new three.Mesh(geometry, new three.MeshBasicMaterial({ ...common, side: three.DoubleSide })));
    } else {
      geometry.setIndex(new three.BufferAttribute(Uint32Array.from(depths.keys()).filter((at) => depths[at] > 0), 1));
      const size = (4 * step * middle) / result.height; // about what a pixel sees, and a little more
      scene.add(new three.Points(geometry, new three.PointsMaterial({ ...common, size })));
    }
    if (this.result !== result) {
      this.result = result;
      const fov = (360 / Math.PI) * Math.atan(result.height / 2 / rig.fy);
      Object.assign(camera, { fov, near: middle / 100, far: middle * 100 });
      camera.position.set(0.07, 0.05, 0.15).multiplyScalar(middle);
      controls.target.set(0, 0, -middle);
      controls.update();
    }
    render();
  }
}

/** Renderer, camera and controls on a canvas. */
async function stage(sheet) {
  const [three, { OrbitControls }] = await Promise.all([
    import("./vendor/three.module.js"),
    import("./vendor/OrbitControls.js"),
  ]);
  const renderer = new three.WebGLRenderer({ canvas: sheet, antialias: true, preserveDrawingBuffer: true });
  renderer.outputColorSpace = three.LinearSRGBColorSpace; // colours go through as they are
  const scene = new three.Scene();
  scene.background = new three.Color(0.1, 0.1, 0.115);
  const camera = new three.PerspectiveCamera();
  const controls = new OrbitControls(camera, sheet);
  const render = () => {
    const { clientWidth: width, clientHeight: height } = sheet;
    if (!width) return;
    renderer.setPixelRatio(Math.min(2, devicePixelRatio));
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
    renderer.render(scene, camera);
  };
  controls.addEventListener("change", render);
  controls.listenToKeyEvents(sheet);
  new ResizeObserver(render).observe(sheet);
  return { three, scene, camera, controls, render };
}

/** A grid of vertices: positions (x right, y up, z to the viewer), colours, depths (0: none). */
function vertices(result, rig) {
  const { width, height, values, depth, quantity, left, valid } = result;
  const step = Math.max(1, Math.ceil(Math.sqrt((width * height) / MOST)));
  const [wide, high] = [Math.floor(width / step), Math.floor(height / step)];
  const shown = shownBy(result);
  const photo = left && pixels(left).data;
  const depths = new Float32Array(wide * high);
  for (let at = 0; at < depths.length; at++) {
    const from = Math.floor(at / wide) * step * width + (at % wide) * step;
    const found = depth ? depth[from] : quantity === "depth" ? values[from] : depthOf(values[from], rig);
    depths[at] = shown(from) && (!valid || valid[from]) && found > 0 ? found : 0;
  }
  const sorted = depths.filter((z) => z > 0).sort();
  const middle = sorted[sorted.length >> 1] ?? 1;
  const points = new Float32Array(3 * depths.length);
  const colours = new Float32Array(3 * depths.length);
  for (let at = 0; at < depths.length; at++) {
    if (depths[at] > FARTHEST * middle) depths[at] = 0;
    const [column, row] = [(at % wide) * step, Math.floor(at / wide) * step];
    const [x, y, z] = pointOf(column, row, depths[at], rig);
    points.set([x, -y, -z], 3 * at);
    const pixel = 4 * (row * width + column);
    for (let band = 0; band < 3; band++) colours[3 * at + band] = photo ? photo[pixel + band] / 255 : 0.8;
  }
  return { step, wide, high, points, colours, depths, middle };
}

/** Two triangles for each square of the grid, except across jumps of depth. */
function triangles(depths, wide, high) {
  const index = [];
  const most = JUMP * depths.reduce((largest, z) => (z > 0 ? Math.max(largest, 1 / z) : largest), 0);
  const whole = (...corners) => {
    const [near, far] = [Math.min, Math.max].map((pick) => pick(...corners.map((at) => depths[at])));
    if (near > 0 && 1 / near - 1 / far < most) index.push(...corners);
  };
  for (let y = 0; y < high - 1; y++) {
    for (let x = 0; x < wide - 1; x++) {
      const at = y * wide + x;
      whole(at, at + wide, at + 1);
      whole(at + 1, at + wide, at + wide + 1);
    }
  }
  return Uint32Array.from(index);
}
