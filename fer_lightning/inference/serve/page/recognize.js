// Recognition in the page (frames stay on this device) or by the server.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import { findFaces } from "./faces.js";
import { framingOf, networkInput, softmax, square } from "./pixels.js";

ort.env.wasm.wasmPaths = { wasm: new URL("ort/ort-wasm-simd-threaded.wasm", location.href).href };
ort.env.wasm.numThreads = 1;

/** Load detector and network once; gives {model, recognize(ImageData)}. */
export async function loadRecognizer(say) {
  say("Loading the model …");
  const model = await (await fetched("model.json")).json();
  const options = { executionProviders: ["wasm"] };
  const detector = await ort.InferenceSession.create(await bytes("blazeface.onnx"), options);
  const network = await ort.InferenceSession.create(await bytes("model.onnx"), options);
  return { model, recognize: (image) => recognize(model, detector, network, image) };
}

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} could not be loaded (${answer.status})`);
  return answer;
}

async function bytes(name) {
  return new Uint8Array(await (await fetched(name)).arrayBuffer());
}

async function recognize(model, detector, network, image) {
  const faces = await findFaces(ort, detector, image);
  for (const face of faces) {
    face.probabilities = await classify(model, network, image, square(face.box, framingOf(model)));
  }
  return faces;
}

/** Probabilities of one square part of a picture. */
export async function classify(model, network, image, part) {
  const { image_size: size, channels } = model.preprocessing;
  const input = new ort.Tensor("float32", networkInput(image, part, model.preprocessing), [1, channels, size, size]);
  const { logits } = await network.run({ image: input });
  return softmax(logits.data, model.calibration.temperature);
}

/** Ask the server: the picture is sent to it. */
export async function askServer(canvas, classNames) {
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  const form = new FormData();
  form.append("files", blob, "frame.jpg");
  const answer = await fetch("recognize", { method: "POST", body: form });
  if (answer.status === 429) return null; // busy: this frame is left out
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail ?? `the server answered ${answer.status}`);
  return found.images[0].faces.map((face) => ({
    box: [face.x, face.y, face.w, face.h],
    score: face.det_score,
    probabilities: classNames.map((name) => face.probabilities[name]),
  }));
}
