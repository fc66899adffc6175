// What flame.js needs, and no more.
import flamegraph from "d3-flame-graph";
import { select } from "d3-selection";

globalThis.exciseVendor = { flamegraph, select };
