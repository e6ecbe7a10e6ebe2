// Recognition in the page (pictures stay on this device) or by the server.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import { BlazeFace } from "./faces.js";
import { calibrated, framingOf, isAligned, networkInput, square } from "./pixels.js";

const SMALL = 200; // pixels: a picture up to this size without a hit may be a face that fills it
const BORDER = 0.5;

ort.env.wasm.wasmPaths = { wasm: new URL("ort/ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.wasm.numThreads = 1; // more need headers that a static server does not send

/** Load the detectors and the network once; gives {model, recognize(ImageData, still)}. */
export async function loadRecognizer() {
  const [model, full, short, network] = await Promise.all([
    fetched("model.json").then((answer) => answer.json()), session("blazeface_full.onnx"),
    session("blazeface_short.onnx"), session("model.onnx"),
  ]);
  const detectors = { full: new BlazeFace(ort, full, "full"), short: new BlazeFace(ort, short, "short") };
  return { model, recognize: (image, still) => recognize(model, detectors, network, image, still) };
}

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} could not be loaded (${answer.status})`);
  return answer;
}

async function session(name) {
  const content = new Uint8Array(await (await fetched(name)).arrayBuffer());
  return ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
}

/** The faces of a picture, as `fer recognize` finds them: in a still one, small faces are looked for in parts, too. */
async function recognize(model, detectors, network, image, still) {
  let faces = await detectors.full.find(image, { squares: still });
  let framing = framingOf(model, "blazeface");
  if (!faces.length && Math.max(image.width, image.height) <= SMALL) {
    faces = await detectors.short.find(image, { border: BORDER });
    framing = framingOf(model, "blazeface_short");
  }
  for (const face of faces) {
    face.probabilities = await classify(model, network, image, square(isAligned(model) ? face : { box: face.box }, framing));
    face.best = face.probabilities.indexOf(Math.max(...face.probabilities));
    face.uncertain = face.probabilities[face.best] < model.calibration.threshold;
  }
  return faces;
}

/** Probabilities of one square part of a picture. */
export async function classify(model, network, image, part) {
  const { image_size: size, channels } = model.preprocessing;
  const input = new ort.Tensor("float32", networkInput(image, part, model.preprocessing), [1, channels, size, size]);
  const { logits } = await network.run({ image: input });
  return calibrated(logits.data, model.calibration);
}

/** Send a picture to the server; null if it is busy. The error of an answer has its `status`. */
export async function askServer(picture, classNames, token) {
  const form = new FormData();
  form.append("files", picture, "picture");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch("recognize", { method: "POST", body: form, headers });
  if (answer.status === 429) return null;
  const found = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(`The server refused it: ${found.detail}.`), { status: answer.status });
  return found.images[0].faces.map((face) => ({
    box: [face.x, face.y, face.w, face.h],
    score: face.det_score,
    probabilities: classNames.map((name) => face.probabilities[name]),
    best: classNames.indexOf(face.label),
    uncertain: face.uncertain,
  }));
}
