// Run the models of this folder and hold their answers against the expected ones.
//
//     npm install onnxruntime-web        (or onnxruntime-node)
//     node accept.mjs [FOLDER] [MODEL ...]
//
// Exits 0 if every model passes, 1 if one fails, 2 if something is missing.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { endianness } from "node:os";
import { fileURLToPath } from "node:url";

const require = createRequire(join(process.cwd(), "package.json"));

function loadRuntime() {
  for (const name of ["onnxruntime-node", "onnxruntime-web"]) {
    try {
      return { name, ort: require(name) };
    } catch (error) {
      if (error.code !== "MODULE_NOT_FOUND") throw error;
    }
  }
  console.error("neither onnxruntime-node nor onnxruntime-web is installed here: npm install onnxruntime-web");
  process.exit(2);
}

function readValues(path, type) {
  const bytes = readFileSync(path);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return type === "uint8" ? new Uint8Array(buffer) : new Float32Array(buffer);
}

async function difference(ort, folder, entry) {
  const model = readFileSync(join(folder, entry.file));
  if (createHash("sha256").update(model).digest("hex") !== entry.sha256) {
    console.log(`${entry.file}: is not the file that was packed`);
    return Infinity;
  }
  const session = await ort.InferenceSession.create(new Uint8Array(model));
  const images = readValues(join(folder, entry.images), entry.input_type);
  const expected = readValues(join(folder, entry.logits), "float32");
  const shape = [entry.batch, ...entry.input_shape.slice(1)];
  const imageSize = shape.reduce((product, size) => product * size, 1);
  const answerSize = entry.batch * entry.output_shape[1];
  let worst = 0;
  for (let call = 0; call * imageSize < images.length; call++) {
    const batch = images.slice(call * imageSize, (call + 1) * imageSize);
    const result = await session.run({ [entry.input]: new ort.Tensor(entry.input_type, batch, shape) });
    const found = result[entry.output].data;
    if (found.length !== answerSize) return Infinity;
    for (let index = 0; index < answerSize; index++) {
      const off = Math.abs(found[index] - expected[call * answerSize + index]);
      if (!(off <= worst)) worst = Number.isFinite(off) ? off : Infinity;
    }
  }
  return worst;
}

if (endianness() !== "LE") throw new Error("the vectors are little-endian");
const folder = process.argv[2] ?? dirname(fileURLToPath(import.meta.url));
const named = process.argv.slice(3);
const { name, ort } = loadRuntime();
if (name === "onnxruntime-web") ort.env.wasm.numThreads = 1;
const told = JSON.parse(readFileSync(join(folder, "acceptance.json"), "utf8"));
console.log(`${name} ${ort.env.versions?.common ?? ""}; the expected answers are of onnxruntime ${told.onnxruntime}`);
const chosen = told.models.filter((entry) => !named.length || named.includes(entry.file));
let failed = 0;
for (const entry of chosen) {
  const worst = await difference(ort, folder, entry);
  const passed = worst <= entry.tolerance;
  failed += !passed;
  console.log(
    `${passed ? "passed" : "FAILED"}  ${entry.file}: ` +
      `largest difference ${worst.toPrecision(3)}, allowed ${entry.tolerance.toPrecision(3)}`,
  );
}
if (!chosen.length) console.log("no such model");
process.exit(chosen.length ? (failed ? 1 : 0) : 2);
