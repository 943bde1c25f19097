// Which node runs where, from what ONNX Runtime's log says when it opens a model: never from the list of providers.
//
//   ... VerifyEachNodeIsAssignedToAnEp] Node placements
//   ...  All nodes placed on [CPUExecutionProvider]. Number of nodes: 11
//
// or, where there are several providers,
//
//   ...  Node(s) placed on [XnnpackExecutionProvider]. Number of nodes: 7
//   ...   Gemm (node_linear)

const PLACED = /\b(?:All nodes|Node\(s\)) placed on \[(\w+)\]\. Number of nodes: (\d+)/;
const NODE = /VerifyEachNodeIsAssignedToAnEp\]\s+(\w+) \((.*)\)\s*$/;

/** Return {nodes: {provider: count}, operators: {provider: {operator: count}}} from lines of a log. */
export function placement(lines) {
  const nodes = {}, operators = {};
  let provider = null;
  for (const line of lines) {
    const placed = PLACED.exec(line), node = NODE.exec(line);
    if (placed) {
      provider = placed[1];
      nodes[provider] = (nodes[provider] ?? 0) + Number(placed[2]);
    } else if (node && provider && node[1].startsWith("Memcpy")) {
      nodes[provider] -= 1; // a copy between two providers is no node of the model
    } else if (node && provider) {
      operators[provider] ??= {};
      operators[provider][node[1]] = (operators[provider][node[1]] ?? 0) + 1;
    }
  }
  if (!Object.keys(nodes).length) throw new Error("ONNX Runtime did not say which node runs where");
  return { nodes, operators };
}
