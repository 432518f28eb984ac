"use strict";
(function () {
  const one = (id) => document.getElementById(id);

  window.addEventListener("error", (event) => {
    const place = one("script-errors");
    place.hidden = false;
    place.append("A script of this page failed: " + event.message + " ");
  });
  document.documentElement.classList.add("js");

  // ---- tables: a click on a title sorts, a box filters -----------------------------------------
  function key(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
    return cell.textContent;
  }

  function compare(a, b, sign) {
    const lacksA = a === "" || Number.isNaN(a), lacksB = b === "" || Number.isNaN(b);
    if (lacksA || lacksB) return lacksA - lacksB;
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  }

  function sortBy(head) {
    const table = head.closest("table"), body = table.tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = Array.from(body.rows, (row) => [key(row, head.cellIndex), row]);
    rows.sort((a, b) => compare(a[0], b[0], up ? 1 : -1));
    body.append(...rows.map((pair) => pair[1]));
  }

  for (const head of document.querySelectorAll(".sortable th"))
    head.firstElementChild.addEventListener("click", () => sortBy(head));

  for (const box of document.querySelectorAll(".filter")) {
    const block = box.closest(".table"), count = block.querySelector(".count");
    box.addEventListener("input", () => {
      const wanted = box.value.toLowerCase();
      let shown = 0;
      const rows = block.querySelector("tbody").rows;
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      count.textContent = wanted ? shown + " of " + rows.length + " rows" : "";
    });
  }

  // ---- a link beside a table saves the file that the list of files holds -------------------------
  const files = Array.from(document.querySelectorAll("a[download]"));
  for (const link of document.querySelectorAll("a[data-file]"))
    link.addEventListener("click", (event) => {
      const file = files.find((a) => a.download === link.dataset.file);
      if (file) { event.preventDefault(); file.click(); }
    });

  // ---- panels of loci ----------------------------------------------------------------------------
  const panels = Array.from(document.querySelectorAll("details.panel"));
  let chosen = null;

  function open(id, jump) {
    const panel = panels.find((p) => p.id === id);
    if (!panel) return;
    chosen = panel;
    for (const other of panels) other.open = other === panel;
    for (const row of document.querySelectorAll("tr[data-panel]"))
      row.classList.toggle("chosen", row.dataset.panel === id);
    one("panel-tools").hidden = false;
    if (jump) {
      one("panel-tools").scrollIntoView({ block: "start" });
      panel.firstElementChild.focus({ preventScroll: true });
    }
    if (viewer) viewer.draw();
  }

  function step(by) {
    const at = panels.indexOf(chosen);
    if (panels.length) open(panels[(at + by + panels.length) % panels.length].id, true);
  }

  function close() {
    for (const panel of panels) panel.open = false;
    for (const row of document.querySelectorAll("tr.chosen")) row.classList.remove("chosen");
    one("panel-tools").hidden = true;
    chosen = null;
    if (viewer) viewer.draw();
  }

  function followAddress() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (panels.some((p) => p.id === id)) open(id, true);
  }

  for (const row of document.querySelectorAll("tr[data-panel]"))
    row.addEventListener("click", (event) => {
      if (!event.target.closest("a")) open(row.dataset.panel, true);
    });
  for (const link of document.querySelectorAll('a[href^="#locus-"]'))
    link.addEventListener("click", (event) => {
      event.preventDefault();
      open(link.getAttribute("href").slice(1), true);
    });
  if (panels.length) {
    one("panel-previous").addEventListener("click", () => step(-1));
    one("panel-next").addEventListener("click", () => step(1));
    one("panel-close").addEventListener("click", close);
    for (const panel of panels)
      panel.addEventListener("toggle", () => { if (!panel.open && panel === chosen) close(); });
    window.addEventListener("hashchange", followAddress);
  }

  // ---- the Manhattan plot --------------------------------------------------------------------------
  function unpack(text, Kind) {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return new Kind(bytes.buffer);
  }

  function load(layer) {
    const names = new Map(), named = unpack(layer.named, Uint32Array);
    named.forEach((row, i) => names.set(row, layer.names[i]));
    return { title: layer.title, names, x: unpack(layer.x, Uint32Array),
      y: unpack(layer.y, Float32Array), latent: unpack(layer.latent, Int16Array) };
  }

  function Viewer(data) {
    const canvas = one("manhattan-canvas"), tip = one("manhattan-tip"), pen = canvas.getContext("2d");
    const layers = data.layers.map(load);
    const whole = [0, data.chromosomes[data.chromosomes.length - 1].end];
    const margin = { left: 52, right: 96, top: 14, bottom: 34 };
    const lines = () => data.thresholds.slice(0, layer ? 1 : undefined);
    let layer = data.first, view = whole.slice(), size = [0, 0], top = 10, drag = null, hover = -1;

    const FOLD = 20;
    function fold(y) { return top > 2 * FOLD && y > FOLD ? FOLD + (y - FOLD) * FOLD / (top - FOLD) : y; }
    function px(x) { return margin.left + (x - view[0]) / (view[1] - view[0]) * size[0]; }
    function py(y) { return margin.top + size[1] * (1 - fold(y) / fold(top)); }
    function atX(pixel) { return view[0] + (pixel - margin.left) / size[0] * (view[1] - view[0]); }

    function chromosomeOf(x) {
      let found = 0;
      data.chromosomes.forEach((c, i) => { if (x >= c.start) found = i; });
      return found;
    }

    function tones() {
      const style = getComputedStyle(document.documentElement);
      const of = (name) => style.getPropertyValue("--" + name).trim();
      return { ink: of("ink"), dim: of("dim"), line: of("line"), dark: of("dark"), light: of("light"),
        mark: of("mark"), paper: of("paper"), soft: of("soft") };
    }

    function measure() {
      const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
      canvas.width = Math.max(1, Math.round(box.width * ratio));
      canvas.height = Math.max(1, Math.round(box.height * ratio));
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      size = [box.width - margin.left - margin.right, box.height - margin.top - margin.bottom];
    }

    function range() {
      const points = layers[layer];
      let low = 0, high = points.x.length;
      while (low < high) { const m = (low + high) >> 1; if (points.x[m] < view[0]) low = m + 1; else high = m; }
      let end = low, last = points.x.length;
      while (end < last) { const m = (end + last) >> 1; if (points.x[m] <= view[1]) end = m + 1; else last = m; }
      return [low, end];
    }

    function draw() {
      if (!size[0]) measure();
      const colour = tones(), points = layers[layer], [from, to] = range();
      top = lines().reduce((most, line) => Math.max(most, line.y), 1);
      for (let i = from; i < to; i++) if (points.y[i] > top) top = points.y[i];
      top *= 1.06;
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.font = "11px system-ui, sans-serif";
      axes(colour);
      pen.save();
      pen.beginPath();
      pen.rect(margin.left, 0, size[0], margin.top + size[1] + 2);
      pen.clip();
      if (chosen) shade(colour);
      const radius = to - from < 4000 ? 2.2 : 1.3;
      for (let i = from, last = -1; i < to; i++) {
        if (last < 0 || points.x[i] > data.chromosomes[last].end) {
          last = chromosomeOf(points.x[i]);
          pen.fillStyle = last % 2 ? colour.light : colour.dark;
        }
        pen.fillRect(px(points.x[i]) - radius, py(points.y[i]) - radius, 2 * radius, 2 * radius);
      }
      markers(colour);
      if (drag && drag.moved) {
        pen.fillStyle = colour.mark;
        pen.globalAlpha = 0.18;
        pen.fillRect(Math.min(drag.from, drag.to), margin.top, Math.abs(drag.to - drag.from), size[1]);
        pen.globalAlpha = 1;
      }
      pen.restore();
    }

    function shade(colour) {
      const locus = data.loci.find((l) => l.panel === chosen.id);
      if (!locus) return;
      pen.fillStyle = colour.mark;
      pen.globalAlpha = 0.18;
      const left = px(locus.start), right = px(locus.end);
      pen.fillRect(left - 2, margin.top, Math.max(right - left, 0) + 4, size[1]);
      pen.globalAlpha = 1;
    }

    function axes(colour) {
      pen.strokeStyle = colour.dim;
      pen.fillStyle = colour.ink;
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(margin.left, margin.top);
      pen.lineTo(margin.left, margin.top + size[1]);
      pen.lineTo(margin.left + size[0], margin.top + size[1]);
      pen.stroke();
      pen.textAlign = "right";
      const folded = top > 2 * FOLD, limit = folded ? FOLD : top, step = niceStep(limit / 5);
      for (let y = 0; y <= limit; y += step) pen.fillText(String(y), margin.left - 6, py(y) + 4);
      if (folded) {
        pen.fillText(String(Math.round(top / 1.06)), margin.left - 6, py(top / 1.06) + 4);
        line(FOLD, colour.line, [2, 3]);
        label("compressed above 20", py(FOLD) - 3, colour.dim);
      }
      for (const limitLine of lines()) {
        line(limitLine.y, colour.dim, limitLine === data.thresholds[0] ? [] : [5, 4]);
        label("P = " + limitLine.label, py(limitLine.y) + (limitLine === data.thresholds[0] ? 10 : -2), colour.dim);
      }
      pen.save();
      pen.translate(13, margin.top + size[1] / 2);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "center";
      pen.fillText("−log₁₀ P, " + layers[layer].title, 0, 0);
      pen.restore();
      names(colour);
    }

    function line(y, colour, dashes) {
      pen.strokeStyle = colour;
      pen.setLineDash(dashes);
      pen.beginPath();
      pen.moveTo(margin.left, py(y));
      pen.lineTo(margin.left + size[0], py(y));
      pen.stroke();
      pen.setLineDash([]);
    }

    function label(text, y, colour) {
      pen.fillStyle = colour;
      pen.textAlign = "left";
      pen.fillText(text, margin.left + size[0] + 4, y);
    }

    function niceStep(rough) {
      const power = Math.pow(10, Math.floor(Math.log10(rough)));
      for (const times of [1, 2, 5, 10]) if (times * power >= rough) return Math.max(1, times * power);
      return 10 * power;
    }

    function names(colour) {
      pen.fillStyle = colour.ink;
      pen.textAlign = "center";
      const inside = data.chromosomes.filter((c) => c.end > view[0] && c.start < view[1]);
      if (inside.length === 1) return megabases(inside[0]);
      let free = -Infinity;
      for (const c of inside) {
        const middle = px((Math.max(c.start, view[0]) + Math.min(c.end, view[1])) / 2);
        const half = pen.measureText(c.name).width / 2 + 3;
        if (middle - half < free) continue;
        pen.fillText(c.name, middle, margin.top + size[1] + 15);
        free = middle + half;
      }
      pen.fillText("chromosome", margin.left + size[0] / 2, margin.top + size[1] + 30);
    }

    function megabases(c) {
      const step = niceStep1((view[1] - view[0]) / 6);
      for (let x = Math.ceil((view[0] - c.start) / step) * step; x <= view[1] - c.start; x += step)
        if (x >= 0) pen.fillText(String(Number((x / 1e6).toPrecision(7))), px(x + c.start), margin.top + size[1] + 15);
      pen.fillText("position on chromosome " + c.name + " (Mb)", margin.left + size[0] / 2, margin.top + size[1] + 30);
    }

    function niceStep1(rough) {
      const power = Math.pow(10, Math.floor(Math.log10(rough)));
      for (const times of [1, 2, 5, 10]) if (times * power >= rough) return times * power;
      return 10 * power;
    }

    function markers(colour) {
      const wide = view[1] - view[0] < whole[1] / 12;
      for (const locus of data.loci) {
        if (locus.x < view[0] || locus.x > view[1]) continue;
        const x = px(locus.x), y = py(locus.y[layer]);
        pen.fillStyle = colour.mark;
        pen.strokeStyle = colour.paper;
        pen.beginPath();
        pen.moveTo(x, y - 5); pen.lineTo(x + 5, y); pen.lineTo(x, y + 5); pen.lineTo(x - 5, y);
        pen.closePath();
        pen.fill();
        pen.stroke();
        if (wide) {
          pen.fillStyle = colour.ink;
          pen.textAlign = "center";
          pen.fillText(locus.label.slice(0, 24), x, Math.max(y - 8, 10));
        }
      }
    }

    function nearestPoint(mouse) {
      const points = layers[layer], reach = (view[1] - view[0]) / size[0] * 8;
      const [from, to] = range(), x = atX(mouse[0]);
      let best = -1, least = 100;
      for (let i = from; i < to; i++) {
        if (Math.abs(points.x[i] - x) > reach) continue;
        const dx = px(points.x[i]) - mouse[0], dy = py(points.y[i]) - mouse[1];
        const distance = dx * dx + dy * dy;
        if (distance < least || (distance === least && best >= 0 && points.y[i] > points.y[best])) { least = distance; best = i; }
      }
      return best;
    }

    function nearestLocus(mouse) {
      let best = null, least = 14 * 14;
      for (const locus of data.loci) {
        const dx = px(locus.x) - mouse[0], dy = py(locus.y[layer]) - mouse[1];
        if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; best = locus; }
      }
      if (best) return best;
      const point = nearestPoint(mouse);
      if (point < 0 || layers[layer].y[point] < data.thresholds[0].y) return null;
      const x = layers[layer].x[point];
      return data.loci.find((l) => x >= l.start && x <= l.end) || null;
    }

    function tell(mouse) {
      const locus = nearestLocus(mouse), i = nearestPoint(mouse);
      canvas.style.cursor = locus ? "pointer" : "crosshair";
      tip.hidden = i < 0 && !locus;
      if (tip.hidden) return;
      const lines = [];
      if (i >= 0) {
        const points = layers[layer], c = data.chromosomes[chromosomeOf(points.x[i])];
        const name = points.names.get(i);
        if (name !== undefined) lines.push(name);
        lines.push(c.name + ":" + Math.round(points.x[i] - c.start).toLocaleString("en"));
        const latent = points.latent[i] >= 0 ? ", " + data.latents[points.latent[i]] : "";
        lines.push("−log₁₀ P " + points.y[i].toFixed(2) + latent);
      }
      if (locus) lines.push("click: locus at " + locus.label);
      tip.replaceChildren(...lines.map((text) => {
        const p = document.createElement("p");
        p.textContent = text;
        return p;
      }));
      const box = canvas.getBoundingClientRect();
      tip.style.left = Math.max(0, Math.min(mouse[0] + 14, box.width - tip.offsetWidth - 4)) + "px";
      tip.style.top = Math.max(0, Math.min(mouse[1] + 14, box.height - tip.offsetHeight)) + "px";
    }

    function place(event) {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    }

    function look(from, to) {
      const least = 20000, width = Math.max(least, Math.min(to - from, whole[1] - whole[0]));
      let start = (from + to) / 2 - width / 2;
      start = Math.max(whole[0], Math.min(start, whole[1] - width));
      view = [start, start + width];
      tip.hidden = true;
      draw();
    }

    function zoom(times) {
      const middle = (view[0] + view[1]) / 2, half = (view[1] - view[0]) / 2 * times;
      look(middle - half, middle + half);
    }

    function pan(share) {
      const by = (view[1] - view[0]) * share;
      look(view[0] + by, view[1] + by);
    }

    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const x = place(event)[0];
      drag = { from: x, to: x, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const mouse = place(event);
      if (drag) {
        drag.to = Math.max(margin.left, Math.min(mouse[0], margin.left + size[0]));
        drag.moved = drag.moved || Math.abs(drag.to - drag.from) > 5;
        if (drag.moved) draw();
      } else tell(mouse);
    });
    canvas.addEventListener("pointerup", (event) => {
      const done = drag;
      drag = null;
      if (!done) return;
      if (done.moved) { look(atX(Math.min(done.from, done.to)), atX(Math.max(done.from, done.to))); return; }
      const locus = nearestLocus(place(event));
      if (locus) open(locus.panel, true);
    });
    canvas.addEventListener("pointercancel", () => { drag = null; draw(); });
    canvas.addEventListener("pointerleave", () => { if (!drag) tip.hidden = true; });
    canvas.addEventListener("dblclick", () => look(whole[0], whole[1]));
    canvas.addEventListener("keydown", (event) => {
      const keys = { ArrowLeft: () => pan(-0.25), ArrowRight: () => pan(0.25), "+": () => zoom(0.5),
        "=": () => zoom(0.5), "-": () => zoom(2), Escape: () => look(whole[0], whole[1]) };
      if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
    });
    one("manhattan-in").addEventListener("click", () => zoom(0.5));
    one("manhattan-out").addEventListener("click", () => zoom(2));
    one("manhattan-left").addEventListener("click", () => pan(-0.25));
    one("manhattan-right").addEventListener("click", () => pan(0.25));
    one("manhattan-reset").addEventListener("click", () => look(whole[0], whole[1]));
    const choose = one("manhattan-layer");
    if (choose) choose.addEventListener("change", () => { layer = Number(choose.value); tip.hidden = true; draw(); });
    window.addEventListener("resize", () => { measure(); draw(); });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    return { draw, look };
  }

  let viewer = null;
  const source = one("manhattan-data");
  if (source) {
    viewer = Viewer(JSON.parse(source.textContent));
    viewer.draw();
  }
  followAddress();
  document.documentElement.dataset.ready = "yes";
})();
