// Play the bandit with an exported agent, without Python: Node.js and ONNX Runtime.
//
//     undelude train bandit --out runs/bandit && undelude export runs/bandit --out exported --format onnx
//     npm install onnxruntime-node
//     node examples/play_onnx.mjs exported 500
//
// Nature is here: theta is the best arm, which pays with probability .75, and the others pay with .25. A sober agent
// earns .434 a round, and one that takes its own actions for evidence .392.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

// From the working folder, where npm installed it.
const { InferenceSession, Tensor } = createRequire(`${process.cwd()}/`)("onnxruntime-node");

const ARMS = 5, PAYS = [0.25, 0.75];
const [folder = "exported", episodes = "500"] = process.argv.slice(2);
const manifest = JSON.parse(await readFile(`${folder}/manifest.json`, "utf8"));
if (manifest.written_as !== "onnx" || manifest.batch_size !== null) {
  throw new Error(`${folder} has functions in the format ${manifest.written_as}, batch size ${manifest.batch_size}: export with --format onnx, without --batch-size.`);
}
const sessions = {};
for (const name of Object.keys(manifest.functions)) {
  sessions[name] = await InferenceSession.create(`${folder}/${name}.onnx`, { intraOpNumThreads: 1 });
}

// Inputs are named in_0, in_1, ... and outputs out_0, out_1, ... in the order of the manifest.
async function call(name, ...inputs) {
  const { results } = manifest.functions[name];
  const outputs = await sessions[name].run(Object.fromEntries(inputs.map((x, i) => [`in_${i}`, x])));
  return results.map((_, i) => outputs[`out_${i}`]);
}

const uniforms = manifest.functions.act.arguments.at(-1);
const draw = () => new Tensor("float32", Float32Array.from({ length: uniforms.shape[0] }, Math.random), uniforms.shape);

let paid = 0;
const rewards = [];
for (let i = 0; i < Number(episodes); i++) {
  const theta = Math.floor(ARMS * Math.random());
  let [action, , ...memory] = await call("act", ...await call("init"), draw()), reward = 0;
  for (let t = 1; t <= manifest.num_rounds; t++) {
    const o = Number(Math.random() < PAYS[Number(action.data[0]) === theta ? 1 : 0]);
    reward += o / manifest.num_rounds;
    if (t < manifest.num_rounds) {
      [action, , ...memory] = await call("step", ...memory, new Tensor("int32", Int32Array.of(o), []), draw());
    }
  }
  paid += reward;
  rewards.push(reward);
}
const mean = paid / rewards.length;
const error = Math.sqrt(rewards.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (rewards.length - 1) / rewards.length);
console.log(`${manifest.agent}: ${mean.toFixed(3)} +- ${error.toFixed(3)} a round over ${rewards.length} episodes`);
