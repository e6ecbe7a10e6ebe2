// BlazeFace: the same steps as fer_lightning/inference/faces/blazeface.py, views.py and found.py.

import { even, resizedPart } from "./pixels.js";

const SIDES = { full: 192, short: 128 }; // of the network's input in pixels
const GRIDS = { full: [[48, 1]], short: [[16, 2], [8, 6]] }; // cells along a side, anchors in each
const MIN_SCORE = 0.5;
const OVERLAP = 0.3;
const GRAY = 128; // of a border
const SHARED = 0.25; // of a square view, with the next one

/** Detector of one kind; find(ImageData, {squares, border}) gives [{box: [left, top, width, height], score,
 *  eyes: [[x, y], [x, y]]}], the eye on the left of the picture first. */
export class BlazeFace {
  constructor(ort, session, kind) {
    this.ort = ort;
    this.session = session;
    this.side = SIDES[kind];
    this.anchors = GRIDS[kind].flatMap(([cells, each]) => Array.from({ length: cells * cells * each }, (_, k) => {
      const cell = Math.floor(k / each);
      return [((cell % cells) + 0.5) / cells, (Math.floor(cell / cells) + 0.5) / cells];
    }));
  }

  /** The faces, the surest first. `squares`: look also at squares of the picture, for small faces; `border`: gray
   *  around the picture, as a share of its longer side, for faces that fill it. */
  async find(image, { squares = false, border = 0 } = {}) {
    const { width, height } = image;
    if (border) {
      const edge = even(border * Math.max(width, height));
      const found = await this.find(bordered(image, edge), { squares });
      const back = ([x, y, ...size]) => [x - edge, y - edge, ...size];
      return found.map((face) => ({ ...face, box: back(face.box), eyes: face.eyes.map(back) }));
    }
    const found = await this.look(image, { left: 0, top: 0, width, height });
    if (!squares || width === height) return found;
    const side = Math.min(width, height);
    for (const top of starts(height, side)) {
      for (const left of starts(width, side)) {
        const faces = await this.look(image, { left, top, width: side, height: side });
        found.push(...faces.filter((face) => isWhole(face.box, left, top, side)));
      }
    }
    return distinct(found);
  }

  async look(image, part) {
    const { side, anchors } = this;
    const { input, scale, top, left } = letterbox(image, part, side);
    const { boxes, scores } = await this.session.run({ image: new this.ort.Tensor("float32", input, [1, 3, side, side]) });
    const found = [];
    anchors.forEach(([x, y], a) => {
      const score = 1 / (1 + Math.exp(-scores.data[a]));
      if (score < MIN_SCORE) return;
      const [dx, dy, w, h, ...points] = boxes.data.subarray(16 * a, 16 * a + 8);
      const place = (px, py) => [(px + x * side - left) * scale + part.left, (py + y * side - top) * scale + part.top];
      const eyes = [place(points[0], points[1]), place(points[2], points[3])];
      found.push({ box: [...place(dx - w / 2, dy - h / 2), w * scale, h * scale], score, eyes });
    });
    return distinct(found);
  }
}

/** A part of the picture in the middle of a black square, in -1..1, and how to come back to its pixels. */
function letterbox(image, part, side) {
  const scale = Math.max(part.width, part.height) / side;
  const high = Math.max(even(part.height / scale), 1);
  const wide = Math.max(even(part.width / scale), 1);
  const top = (side - high) >> 1;
  const left = (side - wide) >> 1;
  const input = new Float32Array(3 * side * side).fill(-1);
  const small = resizedPart(image, part, high, wide);
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < high; y++) {
      for (let x = 0; x < wide; x++) {
        input[(c * side + top + y) * side + left + x] = Math.round(small[4 * (y * wide + x) + c]) / 127.5 - 1;
      }
    }
  }
  return { input, scale, top, left };
}

/** The picture with a gray border. */
function bordered({ data, width, height }, edge) {
  const wider = { width: width + 2 * edge, height: height + 2 * edge };
  wider.data = new Uint8ClampedArray(4 * wider.width * wider.height).fill(GRAY);
  for (let y = 0; y < height; y++) {
    wider.data.set(data.subarray(4 * y * width, 4 * (y + 1) * width), 4 * ((y + edge) * wider.width + edge));
  }
  return wider;
}

/** Where squares of a side begin that cover a length evenly. */
function starts(length, side) {
  const steps = Math.ceil((length - side) / (side * (1 - SHARED)));
  return steps ? Array.from({ length: steps + 1 }, (_, k) => even((k * (length - side)) / steps)) : [0];
}

/** Whether a face is not cut by the edge of a square view. */
function isWhole([x, y, w, h], left, top, side) {
  const across = x + w / 2 - left;
  const down = y + h / 2 - top;
  return Math.min(across, down, side - across, side - down) >= 0.4 * Math.max(w, h);
}

/** Non-maximum suppression; then faces that lie in a surer one are left out, too. */
function distinct(faces) {
  const kept = [];
  for (const face of [...faces].sort((one, other) => other.score - one.score)) {
    const area = ({ box }) => box[2] * box[3];
    if (kept.every((surer) => common(surer.box, face.box) <= OVERLAP * (area(surer) + area(face) - common(surer.box, face.box)))) {
      kept.push(face);
    }
  }
  return kept.filter((face, k) => !kept.slice(0, k).some((surer) => common(surer.box, face.box) > 0.8 * face.box[2] * face.box[3]));
}

/** Area that two boxes share. */
function common(a, b) {
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  return Math.max(width, 0) * Math.max(height, 0);
}
