// node node_worker.mjs LIBRARY [single]
//
// Models run by onnxruntime-web in Node. Frames go over stdin and stdout, both ways alike:
//
//   b"EDGE" | length of the header, u32 | length of the body, u64 | header, JSON | body, bytes
//
// It greets first, then answers one frame with one frame until its stdin ends.
import fs from "node:fs";
import os from "node:os";
import { pathToFileURL } from "node:url";
import { format } from "node:util";
import { Asked, answer } from "./model.mjs";

const PREFIX_BYTES = 16;
const [, , library, fed] = process.argv;

/** Write to stdout, a pipe that may be full. */
function write(data) {
  for (let view = data; view.length; ) {
    try {
      view = view.subarray(writeSync(1, view));
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

function send(header, body = new Uint8Array()) {
  const text = Buffer.from(JSON.stringify(header)), prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.write("EDGE", "latin1");
  prefix.writeUInt32LE(text.length, 4);
  prefix.writeBigUInt64LE(BigInt(body.length), 8);
  write(Buffer.concat([prefix, text, body]));
}

/** Yield the frames that come in. */
async function* frames(stream) {
  let held = [], size = 0;
  const take = (n) => {
    const all = Buffer.concat(held);
    held = [all.subarray(n)];
    size = all.length - n;
    return all.subarray(0, n);
  };
  let wanted = null;
  for await (const piece of stream) {
    held.push(piece);
    size += piece.length;
    for (;;) {
      if (!wanted && size >= PREFIX_BYTES) {
        const prefix = take(PREFIX_BYTES);
        wanted = { header: prefix.readUInt32LE(4), body: Number(prefix.readBigUInt64LE(8)) };
      }
      if (!wanted || size < wanted.header + wanted.body) break;
      const header = JSON.parse(take(wanted.header).toString());
      const body = take(wanted.body);
      wanted = null;
      yield [header, body];
    }
  }
}

// Neither library nor console may write between the frames; what the log says is heard here.
const writeSync = fs.writeSync;
let listening = null;
const hear = (text) => {
  const lines = String(text).split("\n").filter(Boolean);
  if (listening) listening.push(...lines);
  else writeSync(2, lines.map((line) => `${line}\n`).join(""));
};
fs.writeSync = (descriptor, data, ...rest) => {
  if (descriptor !== 1 && descriptor !== 2) return writeSync(descriptor, data, ...rest);
  hear(data);
  return data.length;
};
for (const kind of ["debug", "error", "info", "log", "warn"]) console[kind] = (...said) => hear(format(...said));

async function heard(work) {
  listening = [];
  try {
    return [await work(), listening];
  } finally {
    listening = null;
  }
}

let ort = await import(pathToFileURL(library));
if (!ort.InferenceSession) ort = ort.default;
ort.env.logLevel = "error";
const asked = new Asked(ort, heard, { tick_us: 0.001, block: 1, single: fed === "single" });
const cpu = os.cpus()[0]?.model ?? os.arch();
send({
  machine: { x64: "x86_64", arm64: "aarch64" }[os.arch()] ?? os.arch(),
  system: `${os.type()} ${os.release()}`,
  cores: os.cpus().length,
  cpu,
  features: [],
  versions: { node: process.versions.node, "onnxruntime-web": ort.env.versions.web },
});
for await (const [header, body] of frames(process.stdin)) send(...(await answer(asked, header, body)));
process.exit(0); // onnxruntime-web may keep handles open
