// From pixels to a network's input. The same rules as fer_lightning/preprocessing.py and inference/framing.py.

const LUMA = [0.299, 0.587, 0.114];
const MARGIN = 0.2;
const ALIGNED = 2.5; // degrees

/** Weights that resize an axis: for each new pixel, the first old pixel and the weights from there on.
 *  "area": the mean over the length that a new pixel covers when shrinking, linear between centres when enlarging.
 *  "bilinear": a triangle as wide as two new pixels when shrinking. */
export function resizeWeights(length, size, rule = "area") {
  const scale = length / size;
  const rows = [];
  for (let i = 0; i < size; i++) {
    const left = i * scale;
    const area = rule === "area" && scale > 1;
    const reach = Math.max(scale, 1);
    const middle = left + scale / 2;
    const first = Math.max(Math.floor(area ? left : middle - reach - 0.5), 0);
    const last = Math.min(Math.ceil(area ? left + scale : middle + reach + 0.5), length);
    const weights = new Float64Array(last - first);
    let sum = 0;
    for (let j = first; j < last; j++) {
      const w = area
        ? Math.max(Math.min(j + 1, left + scale) - Math.max(j, left), 0)
        : Math.max(1 - Math.abs(j + 0.5 - middle) / reach, 0);
      weights[j - first] = w;
      sum += w;
    }
    rows.push({ first, weights: Float32Array.from(weights, (w) => w / sum) });
  }
  return rows;
}

const kept = new Map();
function weightsOf(length, size, rule) {
  const key = `${length} ${size} ${rule}`;
  if (!kept.has(key)) {
    if (kept.size > 200) kept.clear();
    kept.set(key, resizeWeights(length, size, rule));
  }
  return kept.get(key);
}

/** Resize one plane of floats, height x width, to size x size (or rows x columns). */
export function resized(plane, height, width, rows, columns, rule = "area") {
  if (height === rows && width === columns) return plane;
  const down = weightsOf(height, rows, rule);
  const across = weightsOf(width, columns, rule);
  const half = new Float32Array(rows * width);
  for (let i = 0; i < rows; i++) {
    const { first, weights } = down[i];
    const target = half.subarray(i * width, (i + 1) * width);
    for (let k = 0; k < weights.length; k++) {
      const w = weights[k];
      if (w === 0) continue;
      const source = plane.subarray((first + k) * width, (first + k + 1) * width);
      for (let j = 0; j < width; j++) target[j] += w * source[j];
    }
  }
  const made = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const source = half.subarray(i * width, (i + 1) * width);
    for (let j = 0; j < columns; j++) {
      const { first, weights } = across[j];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * source[first + k];
      made[i * columns + j] = sum;
    }
  }
  return made;
}

/** Resize a part of a picture (RGBA bytes) by the rule "area": Float32Array of rows x columns x 4. */
export function resizedPart({ data, width }, part, rows, columns) {
  const wide = 4 * part.width;
  const row = new Float32Array(wide);
  const made = new Float32Array(rows * columns * 4);
  const across = weightsOf(part.width, columns, "area");
  weightsOf(part.height, rows, "area").forEach(({ first, weights }, i) => {
    row.fill(0);
    weights.forEach((w, k) => {
      const start = 4 * ((part.top + first + k) * width + part.left);
      for (let j = 0; j < wide; j++) row[j] += w * data[start + j];
    });
    across.forEach(({ first: from, weights: each }, j) => {
      const to = 4 * (i * columns + j);
      for (let k = 0; k < each.length; k++) {
        const at = 4 * (from + k);
        for (let c = 0; c < 3; c++) made[to + c] += each[k] * row[at + c];
      }
    });
  });
  return made;
}

/** How faces sit in the model's training images for a detector, else for the one whose boxes are most like its own;
 *  undefined if nobody has measured it. */
export function framingOf(model, detector) {
  const framings = model.framing ?? {};
  const name = [detector, "blazeface", "blazeface_short", "yunet", "haar"].find((each) => each in framings);
  return framings[name] ?? Object.values(framings)[0];
}

/** Whether the model's training images were turned so that the eyes are level, as far as any detector has seen. */
export function isAligned(model) {
  return Object.values(model.framing ?? {}).some(({ tilt }) => tilt !== null && tilt < ALIGNED);
}

/** The square part of a picture in which a face sits as in the training images: {left, top, side} in pixels.
 *  With eyes, which are to be level, also {turn, about}: radians, around which point. */
export function square({ box: [left, top, width, height], eyes }, framing) {
  let side = Math.max(width, height) * (1 + 2 * MARGIN);
  let x = 0.5;
  let y = 0.5;
  if (framing) {
    side = Math.sqrt(width * height) / framing.size;
    x = framing.x;
    y = framing.y;
  }
  const part = { left: left + width / 2 - x * side, top: top + height / 2 - y * side, side: Math.max(even(side), 1) };
  if (eyes) {
    const turn = Math.atan2(eyes[1][1] - eyes[0][1], eyes[1][0] - eyes[0][0]);
    return { ...part, turn, about: [left + width / 2 - 0.5, top + height / 2 - 0.5] };
  }
  return { ...part, left: even(part.left), top: even(part.top) };
}

/** Round as Python does: halves to the even neighbour. */
export function even(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** Planes of a part of a picture (RGBA bytes), in 0..1; beyond the picture its edge pixels are repeated. */
export function planes(image, part, channels) {
  const { side } = part;
  const found = Array.from({ length: channels }, () => new Float32Array(side * side));
  const pixel = part.turn === undefined ? straight(image, part) : turned(image, part);
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      const [r, g, b] = pixel(j, i);
      const to = i * side + j;
      if (channels === 1) found[0][to] = (LUMA[0] * r + LUMA[1] * g + LUMA[2] * b) / 255;
      else [r, g, b].forEach((value, c) => { found[c][to] = value / 255; });
    }
  }
  return found;
}

/** Function that gives red, green and blue of a pixel of a part, by column and row. */
function straight({ data, width, height }, { left, top }) {
  return (j, i) => {
    const at = 4 * (clamp(top + i, height) * width + clamp(left + j, width));
    return [data[at], data[at + 1], data[at + 2]];
  };
}

/** The same for a part that is turned: linear between the pixels around, rounded. */
function turned(image, { left, top, turn, about: [x0, y0] }) {
  const pixel = straight(image, { left: 0, top: 0 });
  const [across, down] = [Math.cos(turn), Math.sin(turn)];
  return (j, i) => {
    const x = x0 + across * (left + j - x0) - down * (top + i - y0);
    const y = y0 + down * (left + j - x0) + across * (top + i - y0);
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const [u, v] = [x - column, y - row];
    const corners = [pixel(column, row), pixel(column + 1, row), pixel(column, row + 1), pixel(column + 1, row + 1)];
    const mixed = (c) => (1 - v) * ((1 - u) * corners[0][c] + u * corners[1][c]) + v * ((1 - u) * corners[2][c] + u * corners[3][c]);
    return [0, 1, 2].map((c) => Math.round(mixed(c)));
  };
}

const clamp = (place, length) => Math.min(Math.max(place, 0), length - 1);

/** A face as the network expects it, in 0..1: Float32Array of channels x size x size. */
export function networkInput(image, part, preprocessing) {
  const { image_size: size, channels, interpolation } = preprocessing;
  const made = new Float32Array(channels * size * size);
  planes(image, part, channels).forEach((plane, c) => {
    made.set(resized(plane, part.side, part.side, size, size, interpolation), c * size * size);
  });
  return made;
}

/** Probabilities of logits, as models/calibration.py makes them. */
export function calibrated(logits, { temperature, weight = [], bias = [] }) {
  const logs = logSoftmax(Array.from(logits, (z) => z / temperature));
  const mixed = bias.map((b, to) => logs.reduce((sum, log, from) => sum + log * weight[from][to], b));
  return (weight.length ? logSoftmax(mixed) : logs).map(Math.exp);
}

function logSoftmax(logits) {
  const top = Math.max(...logits);
  const log = top + Math.log(logits.reduce((sum, z) => sum + Math.exp(z - top), 0));
  return logits.map((z) => z - log);
}
