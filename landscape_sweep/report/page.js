"use strict";

// ---------------------------------------------------------------- claims that open

const openClaim = () => { // the one that a link points to
  const claim = document.getElementById(location.hash.slice(1));
  if (claim?.matches("details")) claim.open = true;
};
addEventListener("hashchange", openClaim);
openClaim();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(claim => { claim.open = true; }));

// ---------------------------------------------------------------- tables that sort

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("th")];
  const value = (row, column) => {
    const text = row.cells[column].textContent, number = Number(text);
    return text === "–" ? null : text.trim() !== "" && !isNaN(number) ? number : text;
  };
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const x = value(a, column), y = value(b, column);
      if (x === null || y === null) return (x === null) - (y === null); // the unknown stays last
      const order = typeof x !== typeof y ? (typeof x === "number" ? -1 : 1) : x < y ? -1 : x > y ? 1 : 0;
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows);
  }));
}

// ---------------------------------------------------------------- lines that are copied

for (const button of document.querySelectorAll("button.copy"))
  button.addEventListener("click", async () => {
    const line = button.previousElementSibling, text = line.textContent;
    const selection = getSelection(), range = document.createRange();
    range.selectNodeContents(line);
    selection.removeAllRanges();
    selection.addRange(range);
    // The older call works from a file and in many frames, where the newer one is refused.
    let copied = document.execCommand("copy");
    if (!copied) copied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
    button.textContent = copied ? "Copied" : "Press Ctrl+C"; // the line stays selected
  });

// ---------------------------------------------------------------- the surface that turns

const SURFACES = JSON.parse(document.getElementById("surfaces").textContent);
const canvas = document.getElementById("surface");
if (canvas) {
  const pick = document.getElementById("pick"), pen = canvas.getContext("2d");
  SURFACES.forEach((surface, i) => pick.add(new Option(surface.name, i)));
  const SHADES = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]]; // cividis
  const shade = t => {
    const place = Math.min(t, 0.9999) * (SHADES.length - 1), k = Math.floor(place), part = place - k;
    return "rgb(" + SHADES[k].map((c, i) => Math.round(c + part * (SHADES[k + 1][i] - c))) + ")";
  };
  const nearest = axis => axis.reduce((best, v, i) => Math.abs(v) < Math.abs(axis[best]) ? i : best, 0);
  let turn = 0.7, tilt = 0.9; // from above, so that one looks into a basin

  function draw() {
    const { alpha, beta, loss, axes } = SURFACES[pick.value];
    const ink = getComputedStyle(document.body).color;
    const height = loss.map(row => row.map(v => v === null ? null : Math.log10(Math.max(v, 1e-12))));
    const known = height.flat().filter(v => v !== null), low = Math.min(...known), span = Math.max(...known) - low || 1;
    const along = (axis, v) => 2 * (v - axis[0]) / (axis[axis.length - 1] - axis[0]) - 1;
    const project = (x, y, z) => {
      const a = x * Math.cos(turn) - y * Math.sin(turn), b = x * Math.sin(turn) + y * Math.cos(turn);
      // These sizes keep every corner on the canvas at any turn and tilt.
      return [canvas.width / 2 + 210 * a, canvas.height / 2 + 210 * b * Math.sin(tilt) - 280 * z * Math.cos(tilt), b];
    };
    const point = (i, j) => project(along(alpha, alpha[i]), along(beta, beta[j]), (height[i][j] - low) / span - 0.5);
    const faces = [];
    for (let i = 0; i < alpha.length - 1; i++) for (let j = 0; j < beta.length - 1; j++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
      if (corners.some(([a, b]) => height[a][b] === null)) continue; // what is not finite is a hole
      const points = corners.map(([a, b]) => point(a, b));
      const mean = corners.reduce((sum, [a, b]) => sum + (height[a][b] - low) / span, 0) / 4;
      faces.push({ points, mean, depth: points.reduce((sum, p) => sum + p[2], 0) });
    }
    pen.clearRect(0, 0, canvas.width, canvas.height);
    faces.sort((a, b) => a.depth - b.depth).forEach(({ points, mean }) => {
      pen.beginPath();
      points.forEach(([x, y], k) => k ? pen.lineTo(x, y) : pen.moveTo(x, y));
      pen.closePath();
      pen.fillStyle = shade(mean);
      pen.fill();
      pen.strokeStyle = "rgba(255,255,255,.35)";
      pen.stroke();
    });
    const i = nearest(alpha), j = nearest(beta);
    if (height[i][j] !== null) {
      const [x, y] = point(i, j);
      pen.beginPath();
      pen.arc(x, y, 7, 0, 7);
      pen.fillStyle = "#D55E00";
      pen.fill();
      pen.strokeStyle = "#fff";
      pen.stroke();
    }
    pen.fillStyle = ink;
    // The canvas is drawn at one size and shown at any: texts stay readable on a narrow screen.
    const text = Math.max(20, 12 * canvas.width / (canvas.clientWidth || canvas.width));
    pen.font = `${text}px system-ui, sans-serif`;
    pen.textAlign = "center";
    const [ax, ay] = project(0, 1.15, -0.5), [bx, by] = project(1.15, 0, -0.5);
    const side = axis => (axis[axis.length - 1] - axis[0]).toPrecision(3);
    pen.fillText("d1", ax, ay);
    pen.fillText("d2", bx, by);
    pen.textAlign = "left";
    const lines = [alpha, beta].map((axis, i) => `d${i + 1}: ${side(axis)} across${axes[i] ? ", " + axes[i] : ""}`);
    lines.forEach((line, i) => pen.fillText(line, 16, canvas.height - 16 - 1.3 * text * (lines.length - 1 - i)));
    pen.fillText(`loss ${Math.pow(10, low).toPrecision(3)} to ${Math.pow(10, low + span).toPrecision(3)}`, 16, 10 + text);
    canvas.dataset.turn = turn.toFixed(3);
  }

  const move = (dx, dy) => { turn += dx; tilt = Math.min(1.5, Math.max(0.05, tilt + dy)); draw(); };
  canvas.addEventListener("pointerdown", event => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", event => { if (event.buttons) move(event.movementX / 150, event.movementY / 150); });
  canvas.addEventListener("keydown", event => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (step) { move(...step); event.preventDefault(); }
  });
  pick.addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}
