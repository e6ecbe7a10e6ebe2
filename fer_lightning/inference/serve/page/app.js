// The page: pictures, videos and the camera in; boxes, bars and a time line out.

import { drawBoxes, drawTimeline, showCards, showLegend } from "./draw.js";
import { askServer, loadRecognizer } from "./recognize.js";

const SECONDS = 30; // of the time line
const LONGEST_FRAME = 1280; // pixels of the longer side of a video's frame that are looked at
const MOST_PIXELS = 25e6; // of a picture
const BUSY_MS = 1000; // after which a busy server is asked again
const SENT_AS_IT_IS = ["image/jpeg", "image/png", "image/webp"];

const at = (id) => document.getElementById(id);
const view = at("view");
const pen = view.getContext("2d", { willReadFrequently: true });
const video = at("video");

let recognizer = null;
let running = 0; // number of the run; a new one ends the old
let history = [];
let picture = null; // file on the stage

const onServer = () => document.querySelector("input[name=where]:checked").value === "server";

/** Show a sentence; `quiet` keeps screen readers from reading it aloud. */
function say(text, isProblem = false, quiet = false) {
  at("status").ariaLive = quiet ? "off" : "polite";
  at("status").textContent = text;
  at("status").classList.toggle("problem", isProblem);
}

function showMode() {
  at("mode").textContent = onServer()
    ? `Pictures are sent to the server ${location.host}, which keeps none.`
    : "Pictures stay on this device.";
  at("mode").classList.toggle("server", onServer());
}

/** Draw a source onto the stage and return its pixels; transparent parts become gray, as in training. */
function taken(source, width, height, scale) {
  view.width = Math.max(Math.round(width * scale), 1);
  view.height = Math.max(Math.round(height * scale), 1);
  view.classList.toggle("small", view.width < 200);
  pen.fillStyle = "rgb(128, 128, 128)";
  pen.fillRect(0, 0, view.width, view.height);
  pen.drawImage(source, 0, 0, view.width, view.height);
  at("stage").classList.add("full");
  at("hint").hidden = true;
  view.hidden = false;
  return pen.getImageData(0, 0, view.width, view.height);
}

/** The faces of what is on the stage; null if the server is busy. `file`: what it was drawn from, unless a frame. */
async function look(image, file = null) {
  if (!onServer()) return recognizer.recognize(image, file !== null);
  const [kind, quality] = file ? ["image/png"] : ["image/jpeg", 0.92];
  const sent = file && SENT_AS_IT_IS.includes(file.type) ? file : await new Promise((done) => view.toBlob(done, kind, quality));
  try {
    return await askServer(sent, recognizer.model.class_names, at("token").value);
  } catch (error) {
    if (error.status !== 401) throw error instanceof TypeError ? new Error("The server cannot be reached.") : error;
    at("secret").hidden = false;
    throw new Error(at("token").value ? "The server does not take this token." : "The server wants a token: type it above and try again.");
  }
}

function show(faces) {
  drawBoxes(pen, faces, recognizer.model, Math.min(view.clientWidth, (view.clientHeight * view.width) / view.height));
  showCards(at("faces"), faces, recognizer.model);
  view.setAttribute("aria-label", faces.length
    ? `Picture with faces: ${faces.map((face, k) => `${k + 1} ${recognizer.model.class_names[face.best]}`).join(", ")}`
    : "Picture without a face that was found");
}

/** Add the largest face to the time line and draw it. */
function remember(time, faces) {
  const largest = faces.reduce((a, b) => (a && a.box[2] * a.box[3] >= b.box[2] * b.box[3] ? a : b), null);
  history = history.filter((entry) => entry.time < time && time - entry.time <= SECONDS);
  history.push({ time, probabilities: largest?.probabilities ?? null });
  at("over-time").hidden = false;
  drawTimeline(at("timeline"), history, SECONDS, recognizer.model);
}

const found = (number) => (number === 1 ? "1 face." : `${number} faces.`);

async function onPicture(file) {
  stop();
  const mine = running;
  at("over-time").hidden = true;
  say("Looking for faces …");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    clear();
    say(`${file.name} cannot be opened: it is no picture or video that this browser knows, or it is damaged.`, true);
    return;
  }
  if (mine !== running) return;
  picture = file;
  const image = taken(bitmap, bitmap.width, bitmap.height, Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height))));
  show([]);
  await later(0); // lets the browser show it
  try {
    const faces = await look(image, file);
    if (mine !== running) return;
    show(faces ?? []);
    if (faces === null) say("The server is busy. Try again in a moment.", true);
    else if (faces.length) say(found(faces.length));
    else say("No face was found. It finds upright faces that are at least as wide as a twenty-fifth of the picture.");
  } catch (error) {
    say(error.message, true);
  }
}

async function onVideo(file, stream = null) {
  stop();
  const mine = running;
  picture = null;
  history = [];
  at("over-time").hidden = true;
  video.srcObject = stream;
  if (file) video.src = URL.createObjectURL(file);
  try {
    await video.play();
  } catch (error) {
    if (mine !== running) return;
    stop();
    clear();
    say(`${file?.name ?? "The camera"} cannot be played by this browser.`, true);
    return;
  }
  at("stop").hidden = false;
  at("pause").hidden = at("position").hidden = !file;
  say(file ? "Playing." : "The camera is on.");
  await followed(mine, stream);
  if (mine !== running || stream) return;
  stop();
  say("The video has ended.");
}

/** Look at frame after frame until the video ends or something else is opened. */
async function followed(mine, stream) {
  let frames = 0;
  let begin = performance.now();
  while (mine === running && !video.ended) {
    await nextFrame();
    if (mine !== running || !video.videoWidth) continue;
    const time = stream ? performance.now() / 1000 : video.currentTime;
    if (history.at(-1)?.time === time) continue;
    at("position").value = video.currentTime / (video.duration || 1);
    const { videoWidth: width, videoHeight: height } = video;
    const image = taken(video, width, height, Math.min(1, LONGEST_FRAME / Math.max(width, height)));
    try {
      const faces = await look(image);
      if (mine !== running) return;
      if (faces === null) { // busy: some frames are left out
        await later(BUSY_MS);
        continue;
      }
      show(faces);
      remember(time, faces);
    } catch (error) {
      stop();
      say(error.message, true);
      return;
    }
    frames += 1;
    const passed = performance.now() - begin;
    if (passed > 1000) {
      const rate = Math.round((1000 * frames) / passed);
      say(`${stream ? "The camera is on" : "Playing"}: ${rate} picture${rate === 1 ? "" : "s"} a second.`, false, true);
      [frames, begin] = [0, performance.now()];
    }
  }
}

const later = (ms) => new Promise((done) => setTimeout(done, ms));

const nextFrame = () => new Promise((done) => {
  const late = setTimeout(done, 250);
  const now = () => { clearTimeout(late); done(); };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(now); else requestAnimationFrame(now);
});

function stop() {
  running += 1;
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.pause();
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
  at("pause").textContent = "Pause";
  at("stop").hidden = at("pause").hidden = at("position").hidden = true;
}

/** Empty the stage. */
function clear() {
  picture = null;
  view.hidden = at("over-time").hidden = true;
  at("hint").hidden = false;
  at("stage").classList.remove("full");
  at("faces").replaceChildren();
}

const CAMERA_PROBLEMS = {
  NotAllowedError: "The camera was refused. Allow it for this page in the browser's settings, then press the button again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera cannot be opened: another program may be using it.",
};

async function useCamera() {
  if (!navigator.mediaDevices) {
    say("This browser gives its camera only to https pages and to pages of the machine itself (localhost).", true);
    return;
  }
  stop();
  clear();
  const mine = running;
  say("Waiting for the camera …");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
    if (mine === running) await onVideo(null, stream); else stream.getTracks().forEach((track) => track.stop());
  } catch (error) {
    if (mine === running) say(CAMERA_PROBLEMS[error.name] ?? `The camera cannot be used: ${error.message}.`, true);
  }
}

function open(file) {
  if (!file) return;
  if (!recognizer) say("The network is still loading: try again in a moment.");
  else if (file.type.startsWith("video/")) onVideo(file); else onPicture(file);
}

function listen() {
  at("open").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", (event) => { open(event.target.files[0]); event.target.value = ""; });
  at("camera").addEventListener("click", useCamera);
  at("stop").addEventListener("click", () => { stop(); say("Stopped."); });
  at("pause").addEventListener("click", () => {
    if (video.paused) video.play(); else video.pause();
    at("pause").textContent = video.paused ? "Go on" : "Pause";
  });
  at("position").addEventListener("input", (event) => { video.currentTime = event.target.value * (video.duration || 0); });
  for (const input of document.querySelectorAll("input[name=where]")) {
    input.addEventListener("change", () => { showMode(); if (picture) onPicture(picture); });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !at("stop").hidden) at("stop").click(); });
  document.addEventListener("paste", (event) => open(event.clipboardData?.files[0]));
  document.addEventListener("dragover", (event) => { event.preventDefault(); at("stage").classList.add("over"); });
  document.addEventListener("dragleave", () => at("stage").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault(); // the browser would leave the page for the file
    at("stage").classList.remove("over");
    open(event.dataTransfer.files[0]);
  });
}

async function begin() {
  showMode();
  listen();
  try {
    recognizer = await loadRecognizer();
  } catch (error) {
    say(`The page cannot begin: ${error.message ?? error}.`, true);
    return;
  }
  const { model } = recognizer;
  at("about").textContent = `Which expressions faces in pictures, videos or the camera show, as the network ${model.name} sees them.`;
  showLegend(at("legend"), model);
  at("choice").hidden = !model.served;
  at("open").disabled = at("camera").disabled = false;
  say("Ready.");
  document.body.dataset.ready = "true";
}

begin();
