// Bundles d3-flame-graph and the d3 modules that it needs into one script without imports, for flame.py to inline.
// Beside it goes the text of every licence whose code ended up in the bundle.
//
//   npm install && npm run build
import { build } from "esbuild";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const assets = fileURLToPath(new URL("../../src/excise/exporters/assets/", import.meta.url));
const here = fileURLToPath(new URL(".", import.meta.url));

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: ["entry.mjs"],
  outfile: assets + "d3-flame-graph.min.js",
  bundle: true,
  minify: true,
  keepNames: true, // d3-flame-graph asks whether data.constructor.name is "Node"
  format: "iife",
  target: "es2020",
  charset: "ascii",
  legalComments: "none", // they are in the licence file
  loader: { ".css": "empty" }, // flame.css replaces it
  metafile: true,
});

const packages = [...new Set(
  Object.keys(metafile.inputs).map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter(Boolean),
)].sort();

const texts = await Promise.all(packages.map(async (name) => {
  const root = `${here}node_modules/${name}/`;
  const { version, license } = JSON.parse(await readFile(`${root}package.json`, "utf8"));
  const file = (await readdir(root)).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} ships no licence text: do not bundle it`);
  return `== ${name} ${version} (${license})\n\n${(await readFile(root + file, "utf8")).trim()}\n`;
}));
await writeFile(
  `${assets}d3-flame-graph.LICENSES.txt`,
  `d3-flame-graph.min.js is built by packaging/flamegraph from the packages below.\n\n${texts.join("\n\n")}`,
);
