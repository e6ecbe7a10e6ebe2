// Probabilities of face-api.js for gray faces: node peers_face_api.mjs FOLDER PIXELS SIDE OUT
// FOLDER holds node_modules with @vladmandic/face-api, @tensorflow/tfjs and @tensorflow/tfjs-backend-wasm;
// PIXELS is a file of uint8 (N, SIDE, SIDE). Each face is one call, which is timed.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [folder, pixels, side, out] = process.argv.slice(2);
const require = createRequire(path.resolve(folder) + "/");
const tf = require("@tensorflow/tfjs");
require("@tensorflow/tfjs-backend-wasm");
const faceapi = require("@vladmandic/face-api/dist/face-api.node-wasm.js");
await tf.setBackend("wasm");
await tf.ready();
const net = faceapi.nets.faceExpressionNet;
await net.loadFromDisk(path.join(path.dirname(require.resolve("@vladmandic/face-api/package.json")), "model"));

const names = ["angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral"]; // in the order of FER2013
const size = Number(side);
const bytes = fs.readFileSync(pixels);
const probs = [];
const milliseconds = [];
for (let start = 0; start < bytes.length; start += size * size) {
  const rgb = new Uint8Array(3 * size * size);
  for (let p = 0; p < size * size; p++) rgb.fill(bytes[start + p], 3 * p, 3 * p + 3);
  const image = tf.tensor3d(rgb, [size, size, 3], "int32");
  const begun = performance.now();
  const found = await net.predictExpressions(image);
  milliseconds.push(performance.now() - begun);
  probs.push(names.map((name) => found[name]));
  image.dispose();
}
fs.writeFileSync(out, JSON.stringify({ probs, milliseconds }));
