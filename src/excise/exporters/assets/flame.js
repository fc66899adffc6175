// Draws the profile that flame.py embedded. Everything from the watched program is written with textContent only.
"use strict";
(() => {
  const { flamegraph, select } = exciseVendor;
  const $ = (id) => document.getElementById(id);
  const profile = JSON.parse($("profile").textContent);
  const { groups, states, classes, frames, files, kinds, parents, frame, line, self } = profile;
  const onCpu = new Set(profile.on_cpu);
  const CELL = 20;
  const MIXED = profile.mixed;

  // ---- numbers -------------------------------------------------------------------------------------------------
  const digits = (v) => (v >= 99.95 ? Math.round(v).toLocaleString("en") : v >= 9.995 ? v.toFixed(1) : v.toFixed(2));
  const duration = (ns) => {
    for (const [size, unit] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) {
      if (ns >= size * 0.9995) return `${digits(ns / size)} ${unit}`;
    }
    return ns ? `${Math.round(ns)} ns` : "0 s";
  };
  const percent = (part, whole) => {
    if (!whole) return "-";
    const ratio = part / whole;
    return ratio > 0 && ratio < 0.0005 ? "<0.1 %" : `${(100 * ratio).toFixed(1)} %`;
  };

  // ---- the tree of one view: the classes that are switched on, added up again -------------------------------------
  function chosenClasses() {
    const mode = document.querySelector("input[name=mode]:checked").value;
    return classes.map(([group, state]) => {
      const { parked, helper } = groups[group];
      if (parked && !$("parked").checked) return false;
      if (helper && !$("helpers").checked) return false;
      return mode === "all" || (mode === "cpu") === onCpu.has(state);
    });
  }

  function buildTree(mask) {
    const count = parents.length, width = groups.length;
    const sums = new Float64Array(count * width);
    const value = new Float64Array(count);
    for (let i = count - 1; i >= 0; i--) { // children come after their parents
      const own = self[i];
      for (let k = 0; k < own.length; k += 2) {
        if (mask[own[k]]) { sums[i * width + classes[own[k]][0]] += own[k + 1]; value[i] += own[k + 1]; }
      }
      const up = parents[i];
      if (up >= 0) {
        value[up] += value[i];
        for (let g = 0; g < width; g++) sums[up * width + g] += sums[i * width + g];
      }
    }
    const nodes = new Array(count);
    for (let i = 0; i < count; i++) {
      if (!value[i]) continue;
      let top = 0;
      for (let g = 1; g < width; g++) if (sums[i * width + g] > sums[i * width + top]) top = g;
      const [kind, file, name] = frames[frame[i]];
      const pure = sums[i * width + top] >= 0.8 * value[i];
      nodes[i] = {
        name, kind: kinds[kind], file: files[file], line: line[i], value: value[i], children: [], own: self[i], mask,
        group: pure ? top : -1,
      };
      if (parents[i] >= 0) nodes[parents[i]].children.push(nodes[i]);
    }
    return nodes[0];
  }

  function viewTree() {
    const mask = chosenClasses();
    if (!$("group").checked) return buildTree(mask);
    const parts = [];
    groups.forEach((group, g) => {
      const part = buildTree(mask.map((on, c) => on && classes[c][0] === g));
      if (part) parts.push(Object.assign(part, { name: group.name, kind: "group", group: g, order: g }));
    });
    if (!parts.length) return undefined;
    const value = parts.reduce((sum, part) => sum + part.value, 0);
    return { name: "all", kind: "root", file: "", line: 0, value, children: parts, own: [], mask, group: -1 };
  }

  function classSums(node) {
    const sums = new Map();
    const todo = [node];
    for (let n; (n = todo.pop());) {
      for (let k = 0; k < n.own.length; k += 2) {
        if (n.mask[n.own[k]]) sums.set(n.own[k], (sums.get(n.own[k]) || 0) + n.own[k + 1]);
      }
      todo.push(...n.children);
    }
    return [...sums].sort((a, b) => b[1] - a[1]);
  }

  // ---- colour: the stage; the shade: what kind of frame, and a little of its name ---------------------------------
  const KIND_SHADE = { group: 0, root: 0, python: 0.1, native: 0.3, kernel: 0.42, wait: 0.58, missing: 0.5, pruned: 0.62 };
  function mixWhite(hex, amount) {
    const part = (at) => Math.round(parseInt(hex.slice(at, at + 2), 16) * (1 - amount) + 255 * amount);
    return `rgb(${part(1)},${part(3)},${part(5)})`;
  }
  function colour(d) {
    if (d.highlight) return "#ff5bd8";
    let hash = 0;
    for (let i = 0; i < d.data.name.length; i++) hash = (hash * 31 + d.data.name.charCodeAt(i)) & 0xffff;
    const jitter = d.data.kind === "group" ? 0 : (hash % 100) / 100 * 0.12;
    return mixWhite(d.data.group < 0 ? MIXED : groups[d.data.group].colour, KIND_SHADE[d.data.kind] + jitter);
  }

  // ---- tooltip -----------------------------------------------------------------------------------------------------
  const tip = $("tip");
  let shown = 0; // ns in the view
  function element(tag, text, className) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  }
  function placeOf({ file, line: at, kind }) {
    if (kind === "python") return `${file}${at ? `:${at}` : ""}`;
    if (kind === "kernel") return "kernel";
    return file;
  }
  function fillTip(d) {
    const node = d.data;
    const sums = classSums(node);
    const own = node.own.reduce((sum, v, k) => (k % 2 && node.mask[node.own[k - 1]] ? sum + v : sum), 0);
    tip.replaceChildren(element("b", node.name));
    const place = placeOf(node);
    if (place) tip.append(element("div", place, "place"));
    const whole = `${duration(node.value)}, ${percent(node.value, shown)} of the time shown`;
    tip.append(element("div", own && own !== node.value ? `${whole}; ${duration(own)} in itself` : whole, "time"));
    const table = element("table");
    for (const [cls, ns] of sums.slice(0, 9)) {
      const [group, state] = classes[cls];
      const row = element("tr");
      const name = element("td");
      const swatch = element("span", undefined, "swatch");
      swatch.style.background = groups[group].colour;
      name.append(swatch, `${groups[group].name} × ${states[state]}`);
      row.append(name, element("td", duration(ns)), element("td", percent(ns, node.value)));
      table.append(row);
    }
    tip.append(table);
    if (sums.length > 9) tip.append(element("div", `and ${sums.length - 9} more`, "place"));
  }
  function moveTip(x, y) {
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = x + 14 + width > innerWidth ? x - width - 10 : x + 14;
    const top = y + 16 + height > innerHeight ? y - height - 10 : y + 16;
    tip.style.left = `${Math.max(6, left)}px`;
    tip.style.top = `${Math.max(6, top)}px`;
  }
  function tooltip() {}
  tooltip.show = (event, d) => { fillTip(d); moveTip(event.clientX, event.clientY); };
  tooltip.hide = () => { tip.hidden = true; };

  // ---- the chart ---------------------------------------------------------------------------------------------------
  const ZOOM_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 250;
  const box = $("chart");
  let term = "";
  let current = null;
  let zoomed = null;
  let found = "";
  const chart = flamegraph()
    .cellHeight(CELL)
    .inverted(true)
    .minFrameSize(0.8)
    .resetHeightOnZoom(true)
    .sort((a, b) => (a.data.order ?? -1) - (b.data.order ?? -1) || b.data.value - a.data.value)
    .setColorMapper(colour)
    .tooltip(tooltip)
    .label((d) => d.data.name)
    .setDetailsHandler(() => {})
    .setSearchMatch((d, wanted) => !!wanted && `${d.data.name}\n${d.data.file}`.toLowerCase().includes(wanted))
    .setSearchHandler((results, sum, total) => {
      found = term ? `${results.length} ${results.length === 1 ? "frame matches" : "frames match"}: ${duration(sum)}, ${percent(sum, total)} of the time shown` : "";
      say();
    })
    .onClick((d) => {
      zoomed = d.parent ? d.data : null;
      $("reset").disabled = !zoomed;
      mark(d, false);
      say();
    });

  function say() {
    const parts = [`${duration(shown)} shown`];
    if (zoomed) parts.push(`zoomed to ${zoomed.name}: ${duration(zoomed.value)}, ${percent(zoomed.value, shown)}`);
    if (found) parts.push(found);
    $("status").textContent = parts.join(" · ");
  }

  function draw() {
    const tree = viewTree();
    tooltip.hide();
    current = zoomed = null;
    $("reset").disabled = true;
    $("empty").hidden = !!tree;
    box.hidden = !tree;
    shown = tree ? tree.value : 0;
    if (tree) {
      chart.width(box.clientWidth);
      box.replaceChildren();
      chart.transitionDuration(0);
      select(box).datum(tree).call(chart);
      // The library grows new frames from nothing whatever the duration; a new view is simply there.
      select(box).selectAll("rect").interrupt().attr("width", function () { return this.parentNode.getAttribute("width"); });
      chart.transitionDuration(ZOOM_MS);
      if (term) chart.search(term);
    }
    say();
  }

  // ---- keys: / searches, Esc resets, arrows walk ---------------------------------------------------------------------
  const group = (d) => select(box).selectAll("g").filter((other) => other === d);
  function mark(d, withTip) {
    if (current) group(current).classed("current", false);
    current = d;
    if (!withTip) return;
    group(d).classed("current", true).each(function () {
      const { left, bottom } = this.getBoundingClientRect();
      fillTip(d);
      moveTip(Math.max(left, 0), bottom - 12);
    });
  }
  const drawn = (d) => d && d.value > 0 && !group(d).empty();
  function neighbour(d, key) {
    if (key === "ArrowUp") return d.parent;
    if (key === "ArrowDown") return d.children?.find(drawn);
    const row = d.parent?.children ?? [];
    const step = key === "ArrowRight" ? 1 : -1;
    for (let i = row.indexOf(d) + step; i >= 0 && i < row.length; i += step) if (drawn(row[i])) return row[i];
    return undefined;
  }
  box.addEventListener("keydown", (event) => {
    const root = select(box).datum();
    if (event.key === "Enter" && current) chart.zoomTo(current);
    else if (event.key.startsWith("Arrow")) {
      const next = current ? neighbour(current, event.key) : root;
      if (drawn(next)) mark(next, true);
    } else return;
    event.preventDefault();
  });
  box.addEventListener("blur", () => { tooltip.hide(); if (current) group(current).classed("current", false); });

  function resetZoom() {
    if (zoomed) chart.resetZoom();
    tooltip.hide();
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== $("search")) { event.preventDefault(); $("search").select(); }
    if (event.key !== "Escape") return;
    if (document.activeElement === $("search")) { $("search").value = ""; search(); $("search").blur(); }
    resetZoom();
  });
  function search() {
    term = $("search").value.trim().toLowerCase();
    if (!term) { found = ""; chart.clear(); say(); } else chart.search(term);
  }
  let typing = 0;
  $("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(search, 120); });
  $("reset").addEventListener("click", resetZoom);
  for (const input of document.querySelectorAll("input[name=mode], #group, #parked, #helpers")) {
    input.addEventListener("change", draw);
  }
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; draw(); }
  });
  draw();
})();
