// The page: pictures, videos and the camera in; boxes, bars and a time line out.

import { askServer, loadRecognizer } from "./recognize.js";

const COLORS = { angry: "#D55E00", disgust: "#009E73", fear: "#CC79A7", happy: "#F0E442", sad: "#0072B2", surprise: "#E69F00", neutral: "#56B4E9", contempt: "#000000" };
const SECONDS = 30; // of the time line
const LONGEST = 1280; // pixels of the longer side that are looked at

const at = (id) => document.getElementById(id);
const view = at("view");
const pen = view.getContext("2d", { willReadFrequently: true });
const video = at("video");
const status = (text) => { at("status").textContent = text; };

let recognizer = null;
let running = 0; // number of the run; a new one ends the old
let history = [];

const onServer = () => document.querySelector("input[name=where]:checked").value === "server";
const color = (name) => COLORS[name] ?? "#767676";

function showMode() {
  at("mode").textContent = onServer() ? "Pictures are sent to the server and not kept there." : "Nothing leaves this device.";
  at("mode").classList.toggle("server", onServer());
}

/** Draw a source into the view and return its pixels. */
function taken(source, width, height) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  view.width = Math.max(Math.round(width * scale), 1);
  view.height = Math.max(Math.round(height * scale), 1);
  pen.drawImage(source, 0, 0, view.width, view.height);
  at("stage").classList.add("full");
  return pen.getImageData(0, 0, view.width, view.height);
}

async function look(image) {
  return onServer() ? askServer(view, recognizer.model.class_names) : recognizer.recognize(image);
}

function show(faces) {
  const names = recognizer.model.class_names;
  const size = Math.max(view.width / 640, 0.6);
  pen.lineWidth = 2.5 * size;
  pen.font = `600 ${Math.round(16 * size)}px system-ui, sans-serif`;
  for (const face of faces) {
    const best = top(face);
    const [x, y, w, h] = face.box;
    pen.strokeStyle = pen.fillStyle = color(names[best]);
    pen.strokeRect(x, y, w, h);
    const words = `${names[best]} ${Math.round(100 * face.probabilities[best])} %`;
    const wide = pen.measureText(words).width + 8;
    const high = 22 * size;
    const above = y > high ? y - high : y + h;
    pen.fillRect(x, above, wide, high);
    pen.fillStyle = ["happy", "surprise", "neutral", "fear"].includes(names[best]) ? "#111" : "#fff";
    pen.fillText(words, x + 4, above + 16 * size);
  }
  showBars(faces, names);
}

const top = (face) => face.probabilities.indexOf(Math.max(...face.probabilities));

function showBars(faces, names) {
  const cards = faces.map((face, number) => {
    const card = document.createElement("div");
    card.className = "face";
    const head = document.createElement("h3");
    const best = top(face);
    const doubt = face.probabilities[best] < (recognizer.model.calibration.threshold ?? 0) ? " (uncertain)" : "";
    head.textContent = `Face ${number + 1}: ${names[best]}${doubt}`;
    card.append(head, ...names.map((name, k) => row(name, face.probabilities[k])));
    return card;
  });
  at("faces").replaceChildren(...cards);
}

function row(name, share) {
  const line = document.createElement("div");
  line.className = "row";
  const label = document.createElement("span");
  label.textContent = name;
  const meter = document.createElement("meter");
  meter.value = share;
  meter.setAttribute("aria-label", name);
  const number = document.createElement("span");
  number.textContent = `${(100 * share).toFixed(0)} %`;
  line.append(label, meter, number);
  return line;
}

/** Add the largest face to the time line and draw it. */
function remember(time, faces) {
  const largest = faces.reduce((a, b) => (!a || b.box[2] * b.box[3] > a.box[2] * a.box[3] ? b : a), null);
  history.push({ time, probabilities: largest?.probabilities ?? null });
  history = history.filter((entry) => time - entry.time <= SECONDS);
  const canvas = at("timeline");
  const draw = canvas.getContext("2d");
  draw.clearRect(0, 0, canvas.width, canvas.height);
  const from = Math.max(time - SECONDS, history[0].time);
  const x = (t) => ((t - from) / Math.max(time - from, 1)) * canvas.width;
  recognizer.model.class_names.forEach((name, k) => {
    draw.strokeStyle = color(name);
    draw.lineWidth = 2.5;
    draw.beginPath();
    let down = false;
    for (const { time: t, probabilities } of history) {
      if (!probabilities) { down = false; continue; }
      const y = (1 - probabilities[k]) * (canvas.height - 6) + 3;
      if (down) draw.lineTo(x(t), y); else draw.moveTo(x(t), y);
      down = true;
    }
    draw.stroke();
  });
  at("over-time").hidden = false;
}

function showLegend(names) {
  at("legend").replaceChildren(...names.map((name) => {
    const entry = document.createElement("li");
    const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    box.setAttribute("viewBox", "0 0 10 10");
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("width", "10");
    rect.setAttribute("height", "10");
    rect.setAttribute("fill", color(name));
    box.append(rect);
    entry.append(box, name);
    return entry;
  }));
}

async function onPicture(file) {
  stop();
  const mine = ++running;
  try {
    const bitmap = await createImageBitmap(file);
    const image = taken(bitmap, bitmap.width, bitmap.height);
    status("Looking …");
    const faces = await look(image);
    if (mine !== running) return;
    show(faces ?? []);
    status(faces === null ? "The server is busy: try again." : faces.length ? `${faces.length} face${faces.length > 1 ? "s" : ""}` : "No face found.");
  } catch (error) {
    status(`${file.name}: ${error.message ?? error}`);
  }
}

async function onVideo(url, stream = null) {
  stop();
  const mine = ++running;
  history = [];
  video.srcObject = stream;
  if (!stream) video.src = url;
  at("stop").disabled = false;
  try {
    await video.play();
  } catch (error) {
    status(`The video cannot be played: ${error.message}`);
    return;
  }
  let frames = 0;
  let begin = performance.now();
  while (mine === running && !video.ended) {
    await nextFrame();
    if (mine !== running || !video.videoWidth) continue;
    const time = stream ? performance.now() / 1000 : video.currentTime;
    const image = taken(video, video.videoWidth, video.videoHeight);
    try {
      const faces = await look(image);
      if (mine !== running || faces === null) continue;
      show(faces);
      remember(time, faces);
    } catch (error) {
      status(error.message);
      stop();
      return;
    }
    frames += 1;
    if (performance.now() - begin > 1000) {
      status(`${((1000 * frames) / (performance.now() - begin)).toFixed(0)} frames a second`);
      frames = 0;
      begin = performance.now();
    }
  }
  at("stop").disabled = true;
}

const nextFrame = () => new Promise((done) => {
  const late = setTimeout(done, 250);
  const now = () => { clearTimeout(late); done(); };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(now); else requestAnimationFrame(now);
});

function stop() {
  running += 1;
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.pause();
  video.srcObject = null;
  video.removeAttribute("src");
  at("stop").disabled = true;
}

async function useCamera() {
  if (!navigator.mediaDevices) {
    status("This browser gives no camera to this address: use https, or open the page on the machine itself.");
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
    await onVideo("", stream);
  } catch (error) {
    status(error.name === "NotFoundError" ? "No camera was found." : `The camera cannot be used: ${error.message}`);
  }
}

function open(file) {
  if (!file) return;
  if (file.type.startsWith("video/")) onVideo(URL.createObjectURL(file)); else onPicture(file);
}

at("camera").addEventListener("click", useCamera);
at("stop").addEventListener("click", () => { stop(); status("Stopped."); });
at("file").addEventListener("change", (event) => open(event.target.files[0]));
document.querySelector("label[for=file]").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); at("file").click(); }
});
for (const input of document.querySelectorAll("input[name=where]")) input.addEventListener("change", showMode);
const stage = at("stage");
stage.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
stage.addEventListener("dragleave", () => stage.classList.remove("over"));
stage.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  open(event.dataTransfer.files[0]);
});

async function begin() {
  try {
    recognizer = await loadRecognizer(status);
    at("about").textContent = `What faces in pictures, videos or the camera show, as the network ${recognizer.model.name} sees it.`;
    showLegend(recognizer.model.class_names);
    status("Ready.");
    document.body.dataset.ready = "true";
  } catch (error) {
    status(`The page cannot begin: ${error.message ?? error}`);
  }
  const served = await fetch("health").then((answer) => answer.ok).catch(() => false);
  at("server-choice").hidden = !served; // a static copy of the page has no server
}

showMode();
begin();
