// What the page draws: boxes on the picture, a card of bars for each face, and shares over time.

const LINE = 22; // pixels of a label's height on a picture 640 wide

const percent = (share) => `${Math.round(100 * share)} %`;

/** Black or white, whichever is read better on a colour such as #0072B2 (relative luminance, WCAG 2). */
function inkOn(color) {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

function made(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

/** Draw numbered boxes; the numbers are those of the cards. `shown`: the picture's width on the screen. */
export function drawBoxes(pen, faces, { class_names: names, colors }, shown) {
  const size = pen.canvas.width / Math.max(Math.min(shown, 900), 320);
  const high = LINE * size;
  pen.lineWidth = 3 * size;
  pen.font = `600 ${15 * size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  faces.forEach((face, k) => {
    const [x, y, w, h] = face.box;
    pen.strokeStyle = pen.fillStyle = colors[names[face.best]];
    pen.strokeRect(x, y, w, h);
    const words = [`${k + 1}  ${names[face.best]} ${percent(face.probabilities[face.best])}`, `${k + 1}`];
    const text = words.find((each) => pen.measureText(each).width + 10 * size <= Math.max(w, pen.canvas.width - x)) ?? words[1];
    const wide = pen.measureText(text).width + 10 * size;
    const left = Math.max(Math.min(x - pen.lineWidth / 2, pen.canvas.width - wide), 0);
    const above = y - high >= 0 ? y - high : Math.min(y + h, pen.canvas.height - high);
    pen.fillRect(left, above, wide, high);
    pen.fillStyle = inkOn(colors[names[face.best]]);
    pen.fillText(text, left + 5 * size, above + high / 2);
  });
}

/** Show a card for each face. */
export function showCards(parent, faces, { class_names: names, colors }) {
  parent.replaceChildren(...faces.map((face, k) => {
    const number = made("span", "number", `${k + 1}`);
    number.style.background = colors[names[face.best]];
    number.style.color = inkOn(colors[names[face.best]]);
    const head = made("h3", "", number, names[face.best]);
    if (face.uncertain) head.append(made("small", "", "uncertain"));
    return made("div", "face", head, ...names.map((name, c) => row(name, face.probabilities[c], colors[name], c === face.best)));
  }));
}

function row(name, share, color, best) {
  const bar = document.createElement("i");
  bar.style.width = `${100 * share}%`;
  bar.style.background = color;
  bar.hidden = share < 0.005;
  return made("div", best ? "row best" : "row", made("span", "", name), made("span", "track", bar), made("span", "", percent(share)));
}

export function showLegend(parent, { class_names: names, colors }) {
  parent.replaceChildren(...names.map((name) => {
    const box = document.createElement("i");
    box.style.background = colors[name];
    return made("li", "", box, name);
  }));
}

/** Draw the shares of the expressions, stacked, over the last `seconds`: [{time, probabilities or null}]. */
export function drawTimeline(canvas, history, seconds, { class_names: names, colors }) {
  const ratio = window.devicePixelRatio || 1;
  const style = getComputedStyle(canvas);
  const [width, height, foot] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio, 18 * ratio];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  const end = Math.max(history.at(-1).time, history[0].time + 1);
  const begin = Math.max(end - seconds, history[0].time);
  const x = (time) => ((time - begin) / (end - begin)) * width;
  const y = (share) => (1 - share) * (height - foot);
  for (const part of runs(history)) {
    const below = part.map(() => 0);
    names.forEach((name, c) => {
      const above = part.map(({ probabilities }, k) => below[k] + probabilities[c]);
      pen.beginPath();
      part.forEach(({ time }, k) => pen.lineTo(x(time), y(above[k])));
      for (let k = part.length - 1; k >= 0; k--) pen.lineTo(x(part[k].time), y(below[k]));
      pen.fillStyle = colors[name];
      pen.fill();
      above.forEach((value, k) => { below[k] = value; });
    });
  }
  pen.fillStyle = style.color;
  pen.font = `${12 * ratio}px system-ui, sans-serif`;
  const step = [1, 2, 5, 10].find((each) => (end - begin) / each <= 8) ?? 10;
  for (let back = 0; back <= end - begin; back += step) {
    pen.textAlign = back === 0 ? "right" : "center";
    const words = back === 0 ? "now" : `−${back} s`;
    if (x(end - back) > 24 * ratio) pen.fillText(words, x(end - back), height - 5 * ratio);
  }
}

/** Parts of the history between pictures without a face. */
function runs(history) {
  const parts = [[]];
  for (const entry of history) {
    if (entry.probabilities) parts.at(-1).push(entry);
    else if (parts.at(-1).length) parts.push([]);
  }
  return parts.filter((part) => part.length > 1);
}
