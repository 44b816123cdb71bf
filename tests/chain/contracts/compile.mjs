// Compile the contracts beside this file, offline, and print what is put on the test chain.
import { readFileSync } from "node:fs";
import solc from "solc";

const FILES = ["Token.sol", "Helpers.sol", "Wallets.sol"];
const sources = Object.fromEntries(
  FILES.map((name) => [name, { content: readFileSync(new URL(name, import.meta.url), "utf8") }]),
);
const settings = {
  evmVersion: "shanghai",
  optimizer: { enabled: true, runs: 200 },
  viaIR: true,
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["evm.deployedBytecode.object"] } },
};
const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
const faults = (output.errors ?? []).filter((error) => error.severity === "error");
if (faults.length > 0) {
  process.stderr.write(faults.map((fault) => fault.formattedMessage).join("\n"));
  process.exit(1);
}
const runtime = {};
for (const name of FILES) {
  for (const [contract, made] of Object.entries(output.contracts[name])) {
    if (made.evm.deployedBytecode.object) runtime[contract] = `0x${made.evm.deployedBytecode.object}`;
  }
}
process.stdout.write(`${JSON.stringify({ compiler: solc.version(), settings, runtime }, null, 2)}\n`);
