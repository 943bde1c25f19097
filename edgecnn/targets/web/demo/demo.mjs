// The page: a picture comes in by file, drop, paste, sample or camera, and goes to both models.
import { Classifier, compared, measured, softmax } from "./classifier.mjs";
import { toRgb } from "./preprocess.mjs";
import * as ort from "./ort.wasm.min.mjs";

const SHOWN = 5, MOST_LISTED = 20, NAMES = ["float", "int8"];
const byId = (id) => document.getElementById(id);
const breathe = () => new Promise((done) => setTimeout(done));
// What is done last is done alone, and ends what was being done: a new picture does not wait for a measurement.
const state = { about: null, classifiers: [], rgb: null, stream: null, turn: 0, work: Promise.resolve() };
class Stopped extends Error {}

/** Do something when what is being done has ended; what is asked for in between wins. */
async function next(work) {
  const turn = ++state.turn;
  await state.work;
  if (turn !== state.turn) return;
  state.work = work(() => turn === state.turn).catch((error) => error instanceof Stopped || say(error.message, true));
}

function say(text, bad = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("bad", bad);
}

/** Decode a file or an <img>: upright as its EXIF says, and without a change of colours. */
async function pixels(source) {
  const bitmap = await createImageBitmap(source, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  return drawn(bitmap, bitmap.width, bitmap.height);
}

function drawn(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, width, height);
}

function showSeen(rgb) {
  const { width, height } = state.about;
  const canvas = byId("seen"), image = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    image.data.set(rgb.subarray(pixel * 3, pixel * 3 + 3), pixel * 4);
    image.data[pixel * 4 + 3] = 255;
  }
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.setAttribute("aria-label", `What the network sees: ${width} × ${height} pixels`);
}

function showClasses(name, logits) {
  const shares = softmax(logits), order = logits.map((_, index) => index).sort((a, b) => logits[b] - logits[a]);
  const rows = order.slice(0, SHOWN).map((index) => {
    const row = document.createElement("li"), bar = document.createElement("div"), fill = document.createElement("i");
    const percent = `${(100 * shares[index]).toFixed(1)} %`;
    row.append(state.about.classes[index], Object.assign(document.createElement("span"), { textContent: percent }));
    bar.className = "bar";
    bar.setAttribute("aria-hidden", "true");
    fill.style.width = `${100 * shares[index]}%`;
    bar.append(fill);
    row.append(bar);
    return row;
  });
  byId(name).querySelector(".classes").replaceChildren(...rows);
  byId(name).dataset.logits = JSON.stringify(logits);
  byId(name).dataset.top = state.about.classes[order[0]];
  return state.about.classes[order[0]];
}

/** Classify RGB bytes with both models and show what they say. */
async function classify(rgb) {
  state.rgb = rgb;
  showSeen(rgb);
  const tops = [];
  for (const [index, name] of NAMES.entries()) tops.push(showClasses(name, await state.classifiers[index].logits(rgb)));
  byId("answers").hidden = false;
  byId("verdict").textContent =
    tops[0] === tops[1] ? `Both say ${tops[0]}.` : `Float says ${tops[0]}, int8 says ${tops[1]}.`;
  byId("answers").dataset.pictures = Number(byId("answers").dataset.pictures ?? 0) + 1;
}

async function measure(wanted) {
  byId("again").disabled = true;
  byId("how").textContent = "Measuring…";
  for (const name of NAMES) byId(name).querySelector(".latency").textContent ||= "…";
  const pause = async () => {
    await breathe();
    if (!wanted()) throw new Stopped();
  };
  const { times_ms, ratio } = await measured(state.classifiers, state.rgb, pause);
  for (const [index, name] of NAMES.entries()) {
    const small = Object.assign(document.createElement("small"), { textContent: " a picture" });
    byId(name).querySelector(".latency").replaceChildren(`${shown(times_ms[index])} ms`, small);
    byId(name).dataset.ms = times_ms[index];
  }
  const tick = crossOriginIsolated ? "5 µs, the page is cross-origin isolated" : "100 µs, the page is not cross-origin isolated";
  byId("how").textContent = `${compared(ratio)} One thread, WebAssembly; float and int8 in turns after a warm-up, the ` +
    `median of ${ratio.rounds} blocks of calls each, for the browser's clock ticks at ${tick}.`;
  byId("again").disabled = false;
}

const shown = (ms) => (ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms >= 1 ? ms.toFixed(2) : ms.toFixed(3));

/** Take a picture from a file or an <img>, and say what is no picture. */
function take(source) {
  if (!source) return say("There is no picture in that. Drop or paste a picture itself, not its address or a text.", true);
  stopCamera();
  next(async (wanted) => {
    let picture;
    try {
      picture = await pixels(source);
    } catch {
      return say("That is not a picture this browser can read. Try a JPEG, PNG or WebP.", true);
    }
    say("");
    await classify(toRgb(picture, state.about.width, state.about.height));
    await measure(wanted);
  });
}

function stopCamera() {
  state.stream?.getTracks().forEach((track) => track.stop());
  state.stream = null;
  byId("video").hidden = true;
  byId("camera").setAttribute("aria-pressed", "false");
  byId("camera").textContent = "Use the camera";
}

async function startCamera() {
  const video = byId("video");
  try {
    if (!navigator.mediaDevices) throw new Error("a page has a camera only on this device or over HTTPS");
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    video.srcObject = state.stream;
    await video.play();
  } catch (error) {
    stopCamera();
    return say(`The camera cannot be used: ${error.message}`, true);
  }
  video.hidden = false;
  byId("camera").setAttribute("aria-pressed", "true");
  byId("camera").textContent = "Stop the camera";
  say("");
  next(watch);
}

/** Classify what the camera sees until it is stopped. */
async function watch(wanted) {
  const video = byId("video");
  byId("verdict").setAttribute("aria-live", "off"); // many a second would be read aloud
  while (state.stream && wanted()) {
    const frame = drawn(video, video.videoWidth, video.videoHeight);
    await classify(toRgb(frame, state.about.width, state.about.height));
    await new Promise((done) => requestAnimationFrame(done));
  }
  byId("verdict").setAttribute("aria-live", "polite");
  if (wanted()) await measure(wanted);
}

function listen() {
  const drop = byId("drop");
  byId("file").addEventListener("change", (event) => (take(event.target.files[0]), (event.target.value = "")));
  byId("camera").addEventListener("click", () => (state.stream ? stopCamera() : startCamera()));
  byId("again").addEventListener("click", () => state.stream || next(measure));
  addEventListener("paste", (event) => take(event.clipboardData?.files[0]));
  for (const kind of ["dragover", "dragleave", "drop"])
    addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files[0]);
    });
  for (const id of ["file", "camera"]) byId(id).disabled = false;
}

function showAbout() {
  const { about } = state;
  byId("network").textContent = `${about.network} · ${about.width} × ${about.height} · ${about.classes.length} classes`;
  byId("knows").textContent = about.classes.length > MOST_LISTED ? "" :
    `It knows ${about.classes.length} things and answers one of them, whatever it is shown: ${about.classes.join(", ")}.`;
  byId("rule").textContent = `Every picture is brought to the network's size first: ${about.resize}.`;
  for (const model of about.models) {
    const right = model.top1 === null ? "" : `, right for ${(100 * model.top1).toFixed(2)} % of ${model.n.toLocaleString("en")} test pictures`;
    byId(model.name).querySelector(".facts").textContent = `${(model.size_bytes / 1000).toFixed(0)} kB${right}`;
  }
  byId("samples").append(...about.samples.map(sample));
}

function sample({ file, label }) {
  const button = document.createElement("button"), image = new Image();
  Object.assign(image, { src: file, alt: `test picture: ${label}` });
  button.type = "button";
  button.append(image);
  button.addEventListener("click", () => take(image)); // already here: it works offline, too
  return button;
}

async function begin() {
  Object.assign(ort.env.wasm, { numThreads: 1, wasmPaths: new URL("./", location.href).href });
  const answer = await fetch("model.json");
  if (!answer.ok) throw new Error(`model.json is missing (${answer.status}). Write the page again: edgecnn demo-page`);
  state.about = await answer.json();
  showAbout();
  for (const model of state.about.models) state.classifiers.push(await Classifier.open(ort, model));
  listen();
  say("");
  document.body.dataset.ready = "yes";
}

begin().catch((error) => say(error.message, true));
