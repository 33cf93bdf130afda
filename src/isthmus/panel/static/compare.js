// Comparing: curves of several jobs over each other, a line for each job through its parameters, pictures to keep.
"use strict";
(() => {
  const { Chart, COLOURS } = window.isthmusCharts;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  for (const swatch of document.querySelectorAll(".swatch")) swatch.firstElementChild.setAttribute("fill", COLOURS[swatch.dataset.colour % COLOURS.length]);

  function keep(canvas, title, name) {
    const copy = document.createElement("canvas");
    const head = 34 * devicePixelRatio;
    copy.width = canvas.width;
    copy.height = canvas.height + head;
    const pen = copy.getContext("2d");
    pen.fillStyle = css("--surface");
    pen.fillRect(0, 0, copy.width, copy.height);
    pen.fillStyle = css("--ink");
    pen.font = `600 ${14 * devicePixelRatio}px system-ui`;
    pen.fillText(title, 12 * devicePixelRatio, 22 * devicePixelRatio);
    pen.drawImage(canvas, 0, head);
    copy.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${name.replace(/[^\w.-]+/g, "-")}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  const section = document.querySelector("#compare-charts");
  if (section) {
    const jobs = JSON.parse(section.dataset.jobs);
    const $ = (id) => document.getElementById(id);
    const options = { time: () => $("chart-time").checked, log: () => $("chart-log").checked, smooth: () => Number($("chart-smooth").value), relative: true, sync: "compare" };
    const charts = [...section.querySelectorAll("figure.chart")].map((figure) => {
      const sources = jobs.map((job, n) => ({
        url: `/jobs/${job.id}/series?name=${encodeURIComponent(figure.dataset.name)}`,
        label: `${job.id} ${job.name}`, colour: COLOURS[n % COLOURS.length], dash: n >= COLOURS.length ? [6, 3] : undefined,
      }));
      const chart = new Chart(figure, sources, options);
      figure.querySelector(".png").addEventListener("click", () => keep(figure.querySelector("canvas"), figure.dataset.name, `compare-${figure.dataset.name}`));
      return chart;
    });
    Promise.all(charts.map((chart) => chart.load().catch(() => {}))).then(() => { section.dataset.drawn = "yes"; });
    $("chart-log").addEventListener("change", () => charts.forEach((chart) => chart.draw()));
    $("chart-smooth").addEventListener("input", () => charts.forEach((chart) => chart.draw()));
    $("chart-time").addEventListener("change", () => charts.forEach((chart) => { chart.range = null; chart.load(); }));
    addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
    // Jobs that go on: their curves again when they are heard of.
    let again;
    document.addEventListener("isthmus:heard", (event) => {
      if (!event.detail.changed?.some((id) => jobs.some((job) => job.id === id))) return;
      clearTimeout(again);
      again = setTimeout(() => charts.forEach((chart) => { if (!chart.range) chart.load(); }), 1000);
    });
  }

  const parallel = document.querySelector("#parallel");
  if (!parallel) return;
  const canvas = parallel.querySelector("canvas");
  const told = parallel.querySelector("#parallel-told");
  const by = parallel.querySelector("#parallel-by");
  const { axes, jobs } = JSON.parse(parallel.dataset.axes);
  const show = (v) => (v == null ? "–" : Number.isInteger(v) ? String(v) : Number(v.toPrecision(4)).toString());
  for (const axis of axes) {
    const finite = axis.values.filter((v) => v != null);
    axis.low = axis.words ? 0 : Math.min(...finite);
    axis.high = axis.words ? axis.words.length - 1 : Math.max(...finite);
    axis.log = !axis.words && !axis.metric && axis.low > 0 && axis.high / axis.low >= 50;
    axis.at = (v) => {
      if (axis.high === axis.low) return 0.5;
      if (axis.log) return (Math.log(v) - Math.log(axis.low)) / (Math.log(axis.high) - Math.log(axis.low));
      return (v - axis.low) / (axis.high - axis.low);
    };
  }
  let lines = [];
  let near = -1;
  function shade(t) { // from blue to orange, as one sees it without green
    const a = [47, 126, 216], b = [217, 130, 43];
    return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * t)).join(" ")})`;
  }
  function draw() {
    const width = canvas.parentElement.clientWidth - 34, height = 300, ratio = devicePixelRatio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui";
    const left = Math.max(50, 10 + Math.max(...(axes[0].words ?? []).map((word) => pen.measureText(word.slice(0, 14)).width)));
    const right = width - 60, bottom = height - 24;
    const room = (right - left) / (axes.length - 1) - 8;
    const rows = axes.some((axis) => pen.measureText(axis.name).width > room) ? 2 : 1; // names that would touch stand in two rows
    const top = 20 + 14 * rows;
    const short = (text) => {
      let kept = text;
      while (kept.length > 3 && pen.measureText(kept).width > rows * room) kept = `${kept.slice(0, -2)}…`;
      return kept;
    };
    const x = (n) => left + ((right - left) * n) / (axes.length - 1);
    const colour = axes[Number(by.value)];
    lines = jobs.map((_, j) => axes.map((axis, n) => (axis.values[j] == null ? null : [x(n), bottom - (bottom - top) * axis.at(axis.values[j])])));
    const path = (points) => { pen.beginPath(); let pendown = false; for (const point of points) { if (!point) { pendown = false; continue; } if (pendown) pen.lineTo(...point); else pen.moveTo(...point); pendown = true; } pen.stroke(); };
    lines.forEach((points, j) => {
      const value = colour.values[j];
      pen.strokeStyle = value == null ? css("--line-strong") : shade(colour.at(value));
      pen.globalAlpha = near < 0 || near === j ? 0.9 : 0.18;
      pen.lineWidth = near === j ? 3 : 1.6;
      path(points);
    });
    pen.globalAlpha = 1;
    pen.lineWidth = 1;
    axes.forEach((axis, n) => {
      pen.strokeStyle = css("--line-strong");
      pen.beginPath();
      pen.moveTo(x(n), top);
      pen.lineTo(x(n), bottom);
      pen.stroke();
      pen.textAlign = "center";
      pen.fillStyle = css("--ink");
      pen.fillText(short(axis.name), x(n), 14 + 14 * (n % rows));
      pen.fillStyle = css("--muted");
      const ends = axis.words ? axis.words.map((word, i) => [word, bottom - (bottom - top) * axis.at(i)]) : [[show(axis.low), bottom], [show(axis.high), top]];
      pen.textAlign = n === axes.length - 1 ? "left" : "right";
      pen.strokeStyle = css("--surface");
      pen.lineWidth = 4; // so that a number stays readable where lines pass
      for (const [text, y] of ends) {
        const at = [text.slice(0, 14), x(n) + (n === axes.length - 1 ? 6 : -6), y + 4];
        pen.strokeText(...at);
        pen.fillText(...at);
      }
      pen.lineWidth = 1;
    });
  }
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const px = event.clientX - box.left, py = event.clientY - box.top;
    let best = 14, found = -1;
    lines.forEach((points, j) => {
      for (let n = 1; n < points.length; n += 1) {
        const a = points[n - 1], b = points[n];
        if (!a || !b || px < a[0] || px > b[0]) continue;
        const y = a[1] + ((b[1] - a[1]) * (px - a[0])) / (b[0] - a[0]);
        if (Math.abs(y - py) < best) { best = Math.abs(y - py); found = j; }
      }
    });
    if (found === near) return;
    near = found;
    canvas.style.cursor = near < 0 ? "default" : "pointer";
    told.textContent = near < 0 ? "Point at a line to see which job it is." : `${jobs[near].id} ${jobs[near].name}: ${axes.map((axis) => `${axis.name} ${axis.words ? axis.words[axis.values[near]] : show(axis.values[near])}`).join(" · ")}`;
    draw();
  });
  canvas.addEventListener("mouseleave", () => { near = -1; draw(); });
  canvas.addEventListener("click", () => { if (near >= 0) location.href = `/jobs/${jobs[near].id}`; });
  parallel.querySelector(".png").addEventListener("click", () => keep(canvas, "Parallel coordinates", "parallel-coordinates"));
  by.addEventListener("change", draw);
  addEventListener("resize", draw);
  draw();
})();
