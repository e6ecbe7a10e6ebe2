// What the page makes of the cases in stages.json; test_stages.py runs it in the page.
async (stages) => {
  const pixels = await import("./pixels.js");
  const { BlazeFace } = await import("./faces.js");

  const picture = (height, width) => {
    const image = new ImageData(width, height);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < 4; c++) {
      image.data[4 * (y * width + x) + c] = c === 3 ? 255 : (3 * x * (1 + c) + 5 * y + ((x * y) % (11 + c))) % 256;
    }
    return image;
  };
  const every = (values, step) => Array.from(values).filter((_, k) => k % step === 0);

  const resized = stages.resized.map(({ of: { height, width, preprocessing } }) => {
    const part = { left: 0, top: 0, side: height };
    if (height === width) return { values: Array.from(pixels.networkInput(picture(height, width), part, preprocessing)) };
    const { image_size: size, channels, interpolation } = preprocessing;
    const { data } = picture(height, width);
    const planes = Array.from({ length: 3 }, (_, c) => Float32Array.from({ length: height * width }, (_, k) => data[4 * k + c] / 255));
    const gray = planes[0].map((_, k) => 0.299 * planes[0][k] + 0.587 * planes[1][k] + 0.114 * planes[2][k]);
    return { values: (channels === 1 ? [gray] : planes).flatMap((plane) =>
      Array.from(pixels.resized(plane, height, width, size, size, interpolation))) };
  });

  const cut = stages.cut.map(({ of: { box, framing, eyes } }) => {
    const part = pixels.square({ box, eyes }, framing ?? undefined);
    return { side: [part.side], red: every(pixels.planes(picture(60, 80), part, 3)[0], 7).map((value) => 255 * value) };
  });

  const found = await Promise.all(stages.found.map(async ({ of: { kind, squares, border, logits, raw } }) => {
    const inputs = [];
    class Tensor { constructor(type, data) { this.data = data; } }
    const session = { run: async ({ image }) => {
      inputs.push(...every(image.data, 997));
      const anchors = detector.anchors.length;
      const boxes = Float32Array.from({ length: 16 * anchors }, (_, k) => raw[k % 16] ?? 0);
      const scores = new Float32Array(anchors).fill(-5);
      for (const [at, value] of Object.entries(logits)) scores[at] = value;
      return { boxes: { data: boxes }, scores: { data: scores } };
    } };
    const detector = new BlazeFace({ Tensor }, session, kind);
    const faces = await detector.find(picture(60, 80), { squares, border });
    return { inputs, boxes: faces.flatMap((face) => face.box), scores: faces.map((face) => face.score), eyes: faces.flatMap((face) => face.eyes.flat()) };
  }));

  const classified = stages.classified.map(({ of, made }) => ({ probabilities: pixels.calibrated(made.logits, of) }));
  return { resized, cut, found, classified };
}
