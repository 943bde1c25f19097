// The two models of a bundle, run by onnxruntime-web on one thread, and timed in turns.
import { feed } from "./preprocess.mjs";

const BLOCK_MS = 15, ROUNDS = 30;
// A browser compiles WebAssembly twice, in haste and then well, while it runs: until then int8 takes twice as long.
const WARM = { least_ms: 1500, most_ms: 6000, block_ms: 50, blocks: 4, within: 0.05 };

/** Fetch a file and see that it is the one that the page was written with. */
export async function fetched({ file, size_bytes, sha256 }) {
  const answer = await fetch(file).catch((error) => ({ ok: false, status: error.message }));
  if (!answer.ok) throw new Error(`${file} is missing (${answer.status}). Write the page again: edgecnn demo-page`);
  const data = await answer.arrayBuffer();
  if (data.byteLength !== size_bytes)
    throw new Error(`${file}: expected ${size_bytes} bytes, found ${data.byteLength}. Write the page again: edgecnn demo-page`);
  if (globalThis.crypto?.subtle) { // not there on a page that is neither local nor HTTPS
    const hash = [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))];
    if (hash.map((byte) => byte.toString(16).padStart(2, "0")).join("") !== sha256)
      throw new Error(`${file} was changed after the page was written. Write it again: edgecnn demo-page`);
  }
  return new Uint8Array(data);
}

/** One model, opened. */
export class Classifier {
  constructor(ort, session, about) {
    Object.assign(this, { ort, session, about });
  }

  static async open(ort, about) {
    const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
    return new Classifier(ort, await ort.InferenceSession.create(await fetched(about), options), about);
  }

  feeds(rgb) {
    const { data, dims } = feed(rgb, this.about.input);
    return { [this.about.input.name]: new this.ort.Tensor(this.about.input.dtype, data, dims) };
  }

  /** Return the logits of RGB bytes as an array. */
  async logits(rgb) {
    const answers = await this.session.run(this.feeds(rgb));
    return [...answers[this.about.output].data];
  }

  async time_ms(feeds, calls) {
    const started = performance.now();
    for (let call = 0; call < calls; call++) await this.session.run(feeds);
    return performance.now() - started;
  }
}

/** Return the softmax of logits. */
export function softmax(logits) {
  const top = Math.max(...logits), powers = logits.map((logit) => Math.exp(logit - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/** Call until blocks of calls take the same time, or the time is up; return the milliseconds of a call then. */
export async function warmed_up_ms(time_ms, breathe, now = () => performance.now()) {
  const started = now(), means = [];
  for (let calls = 1; ; ) {
    means.push((await time_ms(calls)) / calls);
    calls = Math.max(1, Math.min(calls * 4, Math.ceil(WARM.block_ms / Math.max(means.at(-1), 1e-3))));
    const last = means.slice(-WARM.blocks), least = Math.min(...last), elapsed = now() - started;
    const settled = last.length === WARM.blocks && Math.max(...last) - least <= WARM.within * least;
    if ((settled && elapsed >= WARM.least_ms) || elapsed >= WARM.most_ms) return Math.max(means.at(-1), 1e-3);
    await breathe();
  }
}

/** Time classifiers in turns: return {times_ms, ratio}, the medians over rounds and how the first compares with the other.
 *
 * A browser's clock ticks at 5 or 100 us, so that single calls of a small network cannot be timed. */
export async function measured(classifiers, rgb, breathe) {
  const feeds = classifiers.map((each) => each.feeds(rgb)), calls = [];
  for (const [index, each] of classifiers.entries()) {
    const call_ms = await warmed_up_ms((n) => each.time_ms(feeds[index], n), breathe);
    calls.push(Math.max(1, Math.ceil(BLOCK_MS / call_ms)));
  }
  const times = classifiers.map(() => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const index of round % 2 ? [1, 0] : [0, 1])
      times[index].push((await classifiers[index].time_ms(feeds[index], calls[index])) / calls[index]);
    await breathe();
  }
  return { times_ms: times.map(median), ratio: speedup(times[0], times[1]) };
}

/** Return how many times as fast int8 is, from the times of rounds: the median, and a 95 % interval of it.
 *
 * Of n independent ratios, from the k-th least to the k-th greatest hold their median unless fewer than k of n coins
 * fall on one side; k is the greatest that leaves this to 5 % (the interval of the sign test). */
export function speedup(float_ms, int8_ms) {
  const ratios = float_ms.map((ms, round) => ms / int8_ms[round]).sort((a, b) => a - b), n = ratios.length;
  let k = 0;
  for (let term = 2 ** -n, missed = 2 * term; missed <= 0.05 && 2 * k < n; missed += 2 * term) {
    k++;
    term *= (n - k + 1) / k;
  }
  const outermost = Math.max(k, 1) - 1;
  return { rounds: n, median: median(ratios), low: ratios[outermost], high: ratios[n - 1 - outermost] };
}

/** Say in words what a speed-up and its interval say: not which is faster, where they do not say it. */
export function compared({ median, low, high }) {
  const within = (a, b) => `(95 % interval ${a.toFixed(2)} to ${b.toFixed(2)})`;
  if (low > 1) return `In this browser int8 is ${median.toFixed(2)} times as fast as float ${within(low, high)}.`;
  if (high < 1)
    return `In this browser int8 takes ${(1 / median).toFixed(2)} times as long as float ${within(1 / high, 1 / low)}.`;
  return `Which is faster cannot be told from this measurement: int8 is ${low.toFixed(2)} to ${high.toFixed(2)} times as ` +
    "fast as float (95 % interval). On a busy device, measure again.";
}
