"use strict";
(function () {
  const one = (id) => document.getElementById(id);

  window.addEventListener("error", (event) => {
    const place = one("script-errors");
    place.hidden = false;
    place.append("A script of this page failed: " + event.message + " ");
  });

  const data = JSON.parse(one("walks").textContent);
  const canvas = one("picture"), pen = canvas.getContext("2d");
  const sliders = Array.from(document.querySelectorAll(".slider"));
  const pictures = new Map();
  let chosen = 0, step = data.middle, frame = 0, playing = false, last = 0;

  function label(amount) {
    if (amount === 0) return "0 SD";
    return (amount > 0 ? "+" : "−") + Math.abs(Number(amount.toFixed(2))) + " SD";
  }

  function picture(address) {
    if (!pictures.has(address)) {
      if (pictures.size > 60) pictures.delete(pictures.keys().next().value);
      const image = new Image();
      image.addEventListener("load", draw);
      image.src = address;
      pictures.set(address, image);
    }
    return pictures.get(address);
  }

  // ---- the picture -------------------------------------------------------------------------------
  function draw() {
    const walk = data.walks[chosen], changed = one("difference").checked;
    const sprite = picture((changed ? walk.changes : walk.plain)[step]);
    if (!sprite.complete || !sprite.naturalWidth) return;
    const [wide, tall] = walk.tile;
    if (canvas.width !== 2 * wide || canvas.height !== 2 * tall) {
      canvas.width = 2 * wide;
      canvas.height = 2 * tall;
    }
    pen.imageSmoothingQuality = "high";
    const across = frame % walk.columns, down = Math.floor(frame / walk.columns);
    pen.drawImage(sprite, across * wide, down * tall, wide, tall, 0, 0, canvas.width, canvas.height);
    canvas.dataset.shown = [chosen, step, frame, changed].join("/");
    document.documentElement.dataset.ready = "yes";
  }

  function tell() {
    const walk = data.walks[chosen], heart = walk.hearts[step], start = walk.hearts[data.middle];
    const words = [walk.name, label(data.amounts[step])];
    if (walk.place) words.push(walk.place);
    if (heart) {
      words.push("ejection fraction " + Math.round(100 * heart.ef) + " %");
      if (heart.wall !== null) words.push("wall " + heart.wall.toFixed(1) + " mm");
    } else if (start) {
      words.push("no heart to measure in this picture");
    }
    one("told").textContent = words.join(" · ");
    canvas.setAttribute("aria-label", words.join(", "));
    one("legend").hidden = !one("difference").checked;
    one("low").textContent = "−" + walk.limit;
    one("high").textContent = "+" + walk.limit + " intensity";
  }

  function show() {
    sliders.forEach((slider, number) => {
      const here = number === chosen;
      if (!here) slider.value = String(data.middle);
      const text = label(data.amounts[Number(slider.value)]);
      slider.setAttribute("aria-valuetext", text);
      one("amount-" + number).textContent = text;
      slider.parentElement.classList.toggle("chosen", here);
    });
    tell();
    charts();
    draw();
  }

  function move(slider) {
    chosen = Number(slider.dataset.walk);
    step = Number(slider.value);
    show();
  }

  for (const slider of sliders) {
    slider.addEventListener("input", () => move(slider));
    slider.addEventListener("focus", () => { if (Number(slider.dataset.walk) !== chosen) move(slider); });
  }
  one("difference").addEventListener("change", show);
  one("reset").addEventListener("click", () => {
    for (const slider of sliders) slider.value = String(data.middle);
    step = data.middle;
    show();
  });

  // ---- curves of hearts --------------------------------------------------------------------------
  const SVG = "http://www.w3.org/2000/svg", LEFT = 34, RIGHT = 312, TOP = 8, BOTTOM = 126;

  function element(parent, name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const key of Object.keys(attributes)) made.setAttribute(key, String(attributes[key]));
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function chart(place, xs, ends, lines, here, text) {
    place.replaceChildren();
    const [low, high] = ends;
    const x = (i) => LEFT + (RIGHT - LEFT) * (xs.length > 1 ? i / (xs.length - 1) : 0.5);
    const y = (v) => BOTTOM - (BOTTOM - TOP) * (v - low) / (high - low || 1);
    element(place, "path", { class: "axis", d: "M" + LEFT + " " + TOP + "V" + BOTTOM + "H" + RIGHT });
    element(place, "text", { x: LEFT - 4, y: TOP + 8, "text-anchor": "end" }, text(high));
    element(place, "text", { x: LEFT - 4, y: BOTTOM, "text-anchor": "end" }, text(low));
    element(place, "text", { x: LEFT, y: BOTTOM + 14 }, xs[0]);
    element(place, "text", { x: RIGHT, y: BOTTOM + 14, "text-anchor": "end" }, xs[xs.length - 1]);
    for (const [kind, values] of lines) {
      let path = "", pause = true;
      values.forEach((v, i) => {
        if (v === null) { pause = true; return; }
        path += (pause ? "M" : "L") + x(i).toFixed(1) + " " + y(v).toFixed(1);
        pause = false;
      });
      if (path) element(place, "path", { class: kind, d: path });
    }
    const own = lines[lines.length - 1][1][here];
    if (own !== null && own !== undefined)
      element(place, "circle", { class: "here", r: 4, cx: x(here), cy: y(own) });
  }

  function span(values) {
    const known = values.filter((v) => v !== null);
    return [Math.min(...known), Math.max(...known)];
  }

  function charts() {
    if (!data.cine) return;
    const walk = data.walks[chosen], hearts = walk.hearts, heart = hearts[step], still = hearts[data.middle];
    one("charts").hidden = !still;
    one("diastole").hidden = one("systole").hidden = !heart;
    if (!still) return;
    const efs = hearts.map((h) => (h ? h.ef : null));
    chart(one("pump"), data.amounts.map(label), span(efs), [["curve", efs]], step,
      (v) => Math.round(100 * v) + " %");
    const volumes = hearts.flatMap((h) => (h ? h.volume : []));
    const lines = [["still", still.volume]];
    if (heart) lines.push(["curve", heart.volume]);
    const names = still.volume.map((_, i) => (i === 0 ? "first frame" : "last"));
    chart(one("beat"), names, span(volumes), lines, frame, (v) => String(Math.round(v)));
  }

  // ---- the beat ----------------------------------------------------------------------------------
  function goTo(number) {
    frame = number;
    one("frame").value = String(number);
    charts();
    draw();
  }

  function run(on) {
    playing = on;
    one("play").textContent = on ? "Pause" : "Play";
    if (on) window.requestAnimationFrame(tick);
  }

  function tick(now) {
    if (!playing) return;
    const frames = data.walks[chosen].frames;
    if (now - last > 1600 / frames) {
      last = now;
      goTo((frame + 1) % frames);
    }
    window.requestAnimationFrame(tick);
  }

  if (data.cine) {
    one("play").addEventListener("click", () => run(!playing));
    one("frame").addEventListener("input", () => { run(false); goTo(Number(one("frame").value)); });
    for (const end of ["diastole", "systole"])
      one(end).addEventListener("click", () => {
        run(false);
        goTo(data.walks[chosen].hearts[step][end]);
      });
    run(!window.matchMedia("(prefers-reduced-motion: reduce)").matches);
  }
  show();
})();
