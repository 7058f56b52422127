"use strict";
const at = id => document.getElementById(id);
const whole = document.body.dataset.whole === "yes";
const MOST = 2048;          // side of the mask that is sent; the service scales it to the picture
const TRIES = 3;            // a process may be lost while it works; the next one answers
const [before, after, canvas, stage] = ["before", "after", "paint", "stage"].map(at);
const pen = canvas.getContext("2d");
let file = null, strokes = [], boxes = null, spot = null, result = null;

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

function show(painting) {
  at("painting").hidden = !painting;
  at("result").hidden = after.hidden = at("seam").hidden = painting;
  if (!whole) canvas.hidden = !painting;
  at("brush").hidden = true;
}

async function ask(path, parts) {
  const form = new FormData();
  for (const [name, part] of Object.entries(parts)) form.append(name, part, part.name || `${name}.png`);
  for (let tried = 1; ; tried++) {
    const answer = await fetch(path, { method: "POST", body: form }).catch(() => null);
    if (answer && answer.ok) return answer.blob();
    if (tried < TRIES && (!answer || answer.status >= 500)) {
      await new Promise(done => setTimeout(done, 1000 * tried));
      continue;
    }
    if (!answer) throw new Error("the service cannot be reached");
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error || (answer.status === 503 ? "too many people are waiting; try again" : `error ${answer.status}`));
  }
}

async function open(chosen) {
  if (!chosen) return;
  if (chosen.size > 1e6 * document.body.dataset.megabytes) {
    at("work").hidden = false;
    return say("This file is too large.", true);
  }
  file = chosen, strokes = [], boxes = null;
  before.src = URL.createObjectURL(file);
  at("drop").hidden = true, at("work").hidden = false;
  show(true);
  try {
    await before.decode();
  } catch {
    return say("This file is no picture that your browser can show.", true);
  }
  const scale = Math.min(1, MOST / Math.max(before.naturalWidth, before.naturalHeight));
  canvas.width = Math.round(scale * before.naturalWidth), canvas.height = Math.round(scale * before.naturalHeight);
  spot = { x: canvas.width / 2, y: canvas.height / 2 };
  stage.focus();
  draw();
  say(whole ? "" : "Paint over what is damaged.");
  if (!whole) find();
}

async function find() {
  const mine = file;
  try {
    const mask = await ask("holes", { image: file });
    if (!mask.size) return;
    const found = await createImageBitmap(mask);
    if (file !== mine || strokes.length) return;
    boxes = found;
    draw();
    say("Black boxes were found and are marked. Paint more, or clear them.");
  } catch { /* people can paint them */ }
}

function draw() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (boxes) {
    pen.drawImage(boxes, 0, 0, canvas.width, canvas.height);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data[i + 3] = pixels.data[i];
    pen.putImageData(pixels, 0, 0);
  }
  pen.lineCap = pen.lineJoin = "round";
  for (const stroke of strokes) {
    pen.lineWidth = stroke.width;
    pen.strokeStyle = "#fff";
    pen.beginPath();
    stroke.points.forEach(({ x, y }, i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
    if (stroke.points.length === 1) pen.lineTo(stroke.points[0].x + .01, stroke.points[0].y);
    pen.stroke();
  }
  pen.globalCompositeOperation = "source-in";
  pen.fillStyle = "#e8413c";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.globalCompositeOperation = "source-over";
  if (at("undo")) at("undo").disabled = !strokes.length && !boxes;
}

const perPixel = () => canvas.width / (stage.clientWidth || 1);
const width = () => at("size").value * perPixel();

function place(event) {
  const box = stage.getBoundingClientRect();
  return { x: (event.clientX - box.left) * perPixel(), y: (event.clientY - box.top) * perPixel() };
}

function follow() {
  const brush = at("brush"), size = `${at("size").value}px`;
  brush.hidden = canvas.hidden;
  Object.assign(brush.style, { width: size, height: size, left: `${spot.x / perPixel()}px`, top: `${spot.y / perPixel()}px` });
}

canvas.addEventListener("pointerdown", event => {
  event.preventDefault();
  stage.focus();
  canvas.setPointerCapture(event.pointerId);
  strokes.push({ width: width(), points: [spot = place(event)] });
  draw();
});
canvas.addEventListener("pointermove", event => {
  spot = place(event);
  follow();
  if (!canvas.hasPointerCapture(event.pointerId)) return;
  strokes.at(-1).points.push(spot);
  draw();
});
canvas.addEventListener("pointerleave", () => { at("brush").hidden = true; });

function undo() {
  if (strokes.length) strokes.pop();
  else boxes = null;
  draw();
}

stage.addEventListener("keydown", event => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (step && !canvas.hidden) {
    const far = width() / 4;
    spot = { x: Math.min(canvas.width, Math.max(0, spot.x + far * step[0])), y: Math.min(canvas.height, Math.max(0, spot.y + far * step[1])) };
    follow();
  } else if (event.key === " " && !canvas.hidden) {
    strokes.push({ width: width(), points: [spot] });
    draw();
    follow();
  } else if (event.key === "Enter" && !at("painting").hidden) restore();
  else return;
  event.preventDefault();
});
addEventListener("keydown", event => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !at("painting").hidden && !whole) {
    undo();
    event.preventDefault();
  }
});

async function mask() {
  const flat = new OffscreenCanvas(canvas.width, canvas.height), brush = flat.getContext("2d");
  brush.drawImage(canvas, 0, 0);
  brush.globalCompositeOperation = "source-in";
  brush.fillStyle = "#fff";
  brush.fillRect(0, 0, flat.width, flat.height);
  brush.globalCompositeOperation = "destination-over";
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, flat.width, flat.height);
  return flat.convertToBlob({ type: "image/png" });
}

async function restore() {
  if (!whole && !strokes.length && !boxes) return say("Paint over what is damaged first.", true);
  const started = performance.now();
  const tell = () => say(`Restoring … ${((performance.now() - started) / 1000).toFixed(0)} s`);
  const ticking = setInterval(tell, 1000);
  at("restore").disabled = true;
  tell();
  try {
    const made = await ask("restore", whole ? { image: file } : { image: file, mask: await mask() });
    if (result) URL.revokeObjectURL(result);
    after.src = result = URL.createObjectURL(made);
    await after.decode();
    const kind = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/bmp": "bmp", "image/tiff": "tif" }[made.type];
    at("download").href = result;
    at("download").download = `${file.name.replace(/\.[^.]*$/, "")}-restored.${kind}`;
    show(false);
    compare();
    say(`Restored in ${((performance.now() - started) / 1000).toFixed(1)} s. Move the slider to compare.`);
    at("compare").focus();
  } catch (error) {
    say(`That did not work: ${error.message}`, true);
  } finally {
    clearInterval(ticking);
    at("restore").disabled = false;
  }
}

function compare() {
  const share = at("compare").value;
  after.style.clipPath = `inset(0 0 0 ${share}%)`;
  at("seam").style.left = `${share}%`;
}

at("file").addEventListener("change", event => open(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) addEventListener(name, event => {
  event.preventDefault();
  at("drop").classList.toggle("over", name === "dragover");
  if (name === "drop") open(event.dataTransfer.files[0]);
});
at("restore").addEventListener("click", restore);
at("compare").addEventListener("input", compare);
stage.addEventListener("pointermove", event => {
  if (after.hidden || !event.buttons && event.pointerType !== "mouse") return;
  at("compare").value = 100 * (event.clientX - stage.getBoundingClientRect().left) / stage.clientWidth;
  compare();
});
at("again").addEventListener("click", () => { show(true); say(""); });
at("other").addEventListener("click", () => { at("work").hidden = true; at("drop").hidden = false; at("file").value = ""; at("file").focus(); });
if (at("undo")) {
  at("undo").addEventListener("click", undo);
  at("clear").addEventListener("click", () => { strokes = [], boxes = null; draw(); });
  at("size").addEventListener("input", follow);
}
