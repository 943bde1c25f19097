// Models run by onnxruntime-web in a page; chromium_worker.py asks by calling answered(), bodies go over HTTP.
import { Asked, answer } from "./model.mjs";

// What ONNX Runtime's log says goes to the console; nobody else listens there.
let listening = null;
for (const kind of ["debug", "error", "info", "log", "warn"]) {
  const tell = console[kind].bind(console);
  console[kind] = (...said) => (listening ? listening.push(...said.join(" ").split("\n")) : tell(...said));
}

async function heard(work) {
  listening = [];
  try {
    return [await work(), listening];
  } finally {
    listening = null;
  }
}

const library = new URL(location.href).searchParams.get("library");
let asked = null;

/** Load the library and return what the browser says of itself. */
window.greeted = async () => {
  const ort = await import(`/dist/${library}`);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = "/dist/";
  const tick_us = crossOriginIsolated ? 5 : 100;
  asked = new Asked(ort, heard, { tick_us, block: 50 });
  return { isolated: crossOriginIsolated, version: ort.env.versions.web, gpu: await adapter() };
};

window.answered = async (header) => {
  const body = new Uint8Array(await (await fetch("/body", { cache: "no-store" })).arrayBuffer());
  const [told, data] = await answer(asked, header, body);
  const sent = await fetch("/answer", { method: "POST", body: data });
  if (!sent.ok) throw new Error(`the answer was not taken: ${sent.status}`);
  return told;
};

/** Return what WebGPU says of its adapter, or null where there is none. */
async function adapter() {
  const info = (await navigator.gpu?.requestAdapter())?.info;
  if (!info) return null;
  return { vendor: info.vendor, architecture: info.architecture, description: info.description,
    software: info.isFallbackAdapter === true };
}
