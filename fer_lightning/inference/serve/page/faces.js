// BlazeFace full range: the same steps as fer_lightning/inference/faces/blazeface.py.

import { resized } from "./pixels.js";

const SIDE = 192;
const CELLS = 48;
const MIN_SCORE = 0.5;
const OVERLAP = 0.3;

/** The picture in the middle of a black square, in -1..1, and how to come back to its pixels. */
function letterbox(image) {
  const { data, width, height } = image;
  const scale = Math.max(width, height) / SIDE;
  const high = Math.max(Math.round(height / scale), 1);
  const wide = Math.max(Math.round(width / scale), 1);
  const top = (SIDE - high) >> 1;
  const left = (SIDE - wide) >> 1;
  const input = new Float32Array(3 * SIDE * SIDE).fill(-1);
  for (let c = 0; c < 3; c++) {
    const plane = new Float32Array(width * height);
    for (let i = 0; i < plane.length; i++) plane[i] = data[4 * i + c];
    const small = resized(plane, height, width, high, wide, "area");
    for (let y = 0; y < high; y++) {
      for (let x = 0; x < wide; x++) {
        input[(c * SIDE + top + y) * SIDE + left + x] = Math.round(small[y * wide + x]) / 127.5 - 1;
      }
    }
  }
  return { input, scale, top, left };
}

/** Find the faces of a picture (ImageData): [{box: [left, top, width, height], score}], the surest first. */
export async function findFaces(ort, session, image) {
  const { input, scale, top, left } = letterbox(image);
  const { boxes, scores } = await session.run({ image: new ort.Tensor("float32", input, [1, 3, SIDE, SIDE]) });
  const found = [];
  for (let a = 0; a < CELLS * CELLS; a++) {
    const score = 1 / (1 + Math.exp(-scores.data[a]));
    if (score < MIN_SCORE) continue;
    const x = (((a % CELLS) + 0.5) / CELLS) * SIDE;
    const y = ((Math.floor(a / CELLS) + 0.5) / CELLS) * SIDE;
    const [dx, dy, w, h] = boxes.data.subarray(16 * a, 16 * a + 4);
    const box = [dx + x - w / 2 - left, dy + y - h / 2 - top, w, h].map((value) => value * scale);
    found.push({ box, score });
  }
  found.sort((one, other) => other.score - one.score);
  const distinct = [];
  for (const face of found) {
    if (!distinct.some((surer) => overlap(surer.box, face.box) > OVERLAP)) distinct.push(face);
  }
  return distinct;
}

function overlap(a, b) {
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const both = width * height;
  const smaller = Math.min(a[2] * a[3], b[2] * b[3]);
  return both > 0.8 * smaller ? 1 : both / (a[2] * a[3] + b[2] * b[3] - both);
}
