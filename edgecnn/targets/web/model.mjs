// A model opened with onnxruntime-web, in Node or in a page: what the worker's three requests do.
import { placement } from "./placement.mjs";

const ARRAYS = { "<f4": ["float32", Float32Array], "|u1": ["uint8", Uint8Array] };
const PROVIDERS = { CPUExecutionProvider: "wasm", XnnpackExecutionProvider: "xnnpack", JsExecutionProvider: "webgpu",
  WebGpuExecutionProvider: "webgpu" };
const SAYS_ALL = 0, SAYS_ERRORS = 3;

/** What may be asked of a model on one onnxruntime-web.
 *
 * ort: the library; heard(work): runs async work and returns [result, lines of the log meanwhile]; tick_us: of the
 * clock; block: how many calls are timed as one where that many are asked for; single: whether it is fed one image a
 * call, as XNNPACK's Gemm of old must be: with a batch that may vary it answers the first image alone. */
export class Asked {
  constructor(ort, heard, { tick_us, block, single = false }) {
    Object.assign(this, { ort, heard, tick_us, block, single, session: null });
  }

  /** Open a model twice: the first time loudly, to hear where its nodes are; a loud session would also run slowly. */
  async open(header, bytes) {
    if (header.threads !== 1) throw new Error(`takes one thread, found ${header.threads}`);
    const name = PROVIDERS[header.provider ?? "CPUExecutionProvider"];
    if (!name) throw new Error(`onnxruntime-web has no ${header.provider}`);
    this.ort.env.wasm.numThreads = 1;
    this.ort.env.wasm.simd = true;
    const told = header.provider_options ?? {}, provider = Object.keys(told).length ? { name, ...told } : name;
    const create = (level) =>
      this.ort.InferenceSession.create(bytes, { executionProviders: [provider], logSeverityLevel: level });
    const [loud, lines] = await this.heard(() => create(SAYS_ALL));
    await loud.release();
    const found = placement(lines);
    this.session = await create(SAYS_ERRORS);
    return found;
  }

  async run(header, bytes) {
    if (!this.single || header.shape[0] === 1) return answered(await this.session.run(this.fed(header, bytes)));
    const image = { ...header, shape: [1, ...header.shape.slice(1)] }, size = bytes.length / header.shape[0];
    const bodies = [];
    let shape = null;
    for (let start = 0; start < bytes.length; start += size) {
      const [found, body] = await this.run(image, bytes.subarray(start, start + size));
      bodies.push(new Uint8Array(body));
      shape = [header.shape[0], ...found.shape.slice(1)];
    }
    const whole = new Uint8Array(bodies.reduce((sum, body) => sum + body.length, 0));
    bodies.reduce((at, body) => (whole.set(body, at), at + body.length), 0);
    return [{ shape }, whole];
  }

  /** Return the microseconds of each call, float64; those of one block are all its mean. */
  async time(header, bytes) {
    if (this.single && header.shape[0] !== 1) throw new Error(`takes one image a call, found ${header.shape[0]}`);
    const feeds = this.fed(header, bytes), times_us = new Float64Array(header.calls);
    for (let done = 0; done < header.calls; ) {
      const calls = Math.min(this.block, header.calls - done);
      const started = performance.now();
      for (let call = 0; call < calls; call++) await this.session.run(feeds);
      // A clock that did not move says only that it was less than a tick.
      const elapsed_us = Math.max((performance.now() - started) * 1e3, this.tick_us);
      times_us.fill(elapsed_us / calls, done, done + calls);
      done += calls;
    }
    return new Uint8Array(times_us.buffer);
  }

  fed(header, bytes) {
    if (!this.session) throw new Error("no model is open");
    const known = ARRAYS[header.dtype];
    if (!known) throw new Error(`expected float32 or uint8, found ${header.dtype}`);
    const [type, Kind] = known;
    const own = new Uint8Array(bytes); // a copy: aligned, and no view of a larger buffer
    return { [header.input]: new this.ort.Tensor(type, new Kind(own.buffer), header.shape) };
  }
}

/** Return the header and the body for what a session answered. */
function answered(answers) {
  const [logits] = Object.values(answers);
  if (logits.type !== "float32") throw new Error(`expected logits float32, found ${logits.type}`);
  return [{ shape: logits.dims }, new Uint8Array(logits.data.buffer, logits.data.byteOffset, logits.data.byteLength)];
}

/** Answer one frame: return [header, body]; what goes wrong is said in the header. */
export async function answer(asked, header, body) {
  try {
    if (header.do === "open") return [await asked.open(header, body), new Uint8Array()];
    if (header.do === "run") return await asked.run(header, body);
    if (header.do === "time") return [{}, await asked.time(header, body)];
    throw new Error(`cannot ${header.do}`);
  } catch (error) {
    return [{ error: reason(error) }, new Uint8Array()];
  }
}

/** Return the first line of an error; onnxruntime-web of old throws bare numbers. */
export function reason(error) {
  const said = String(error?.message ?? error).split("\n")[0];
  return /^\d+$/.test(said) ? `onnxruntime-web threw the number ${said}: it does not read this model` : said;
}
