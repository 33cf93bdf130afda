// Curves: each chart asks for its series (thinned by the server to the lowest and highest of each pixel), draws them,
// looks closer where somebody drags over it, and goes on while the job runs.
"use strict";
(() => {
  const COLOURS = ["#2f7ed8", "#d9822b", "#2a9d6b", "#c23b80", "#7a5cd6", "#8a8d20", "#c0504d", "#3aa6b9", "#946b2d", "#6b7280", "#b04ad0", "#4c9a2a"];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  const units = {
    bytes: (v) => {
      if (v == null) return "–";
      let n = Math.abs(v), u = 0;
      while (n >= 1024 && u < 5) { n /= 1024; u += 1; }
      return `${v < 0 ? "-" : ""}${n >= 100 || u === 0 ? n.toFixed(0) : n.toFixed(1)} ${BYTES[u]}`;
    },
    share: (v) => (v == null ? "–" : `${Math.round(v * 100)} %`),
    slope: (v) => (v == null ? "–" : v === 0 ? "0" : v < 0.01 ? Number(v.toPrecision(1)).toString() : v.toFixed(2)),
    plain: (v) => (v == null ? "–" : Number.isInteger(v) && Math.abs(v) < 1e6 ? String(v) : Number(v.toPrecision(5)).toString()),
  };

  // The words at an axis: as many digits as tell its ticks apart, all in the unit of the largest.
  const POWERS = Array.from({ length: 55 }, (_, power) => 2 ** power);
  function ticks(unit, values, step) {
    const most = Math.max(...values.filter((v) => v != null).map(Math.abs), 0);
    let scale = 1, word = "";
    if (unit === "bytes") {
      const power = Math.min(5, Math.max(0, Math.floor(Math.log2(most || 1) / 10)));
      scale = 1024 ** power;
      word = ` ${BYTES[power]}`;
    } else if (unit === "share") { scale = 0.01; word = " %"; }
    let digits = 0;
    for (let d = step / scale; digits < (unit === "bytes" ? 2 : 12) && Math.abs(d - Math.round(d)) > 1e-6 * d; d *= 10) digits += 1;
    return values.map((v) => {
      if (v == null) return "";
      if (v !== 0 && (most / scale >= 1e6 || most / scale < 1e-4)) return v.toExponential(Math.min(3, Math.max(0, Math.ceil(Math.log10(most / step)))));
      return (v / scale).toFixed(digits) + (v === 0 ? "" : word);
    });
  }

  // Times at an axis: the reader's, as elsewhere in the panel; or how long after the begin.
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
  const exactly = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
  const times = (at, step) => at.map((v) => (v == null ? "" : (step >= 86400 ? day : step >= 60 ? clock : exactly).format(new Date(v * 1000))));
  const spans = (at) => at.map((v) => {
    if (v == null) return "";
    if (v < 60) return `${Number(v.toPrecision(3))}s`;
    const [whole, part, big, small] = v < 3600 ? [Math.floor(v / 60), Math.round(v % 60), "m", "s"] : [Math.floor(v / 3600), Math.round((v % 3600) / 60), "h", "m"];
    return part ? `${whole}${big}${String(part).padStart(2, "0")}${small}` : `${whole}${big}`;
  });

  // What a machine has in use is drawn from nothing up, and over a least range: what is idle looks idle.
  const LEAST = { slope: 0.1, bytes: 1048576, share: 1 };
  const rangeOf = (unit) => (_, low, high) => [0, unit === "share" ? 1 : Math.max(high ?? 0, LEAST[unit]) * 1.05];

  function slope(series) { // of what only grows: the rate between the points
    const x = [], y = [];
    for (let i = 1; i < series.x.length; i += 1) {
      const dt = series.x[i] - series.x[i - 1];
      if (dt <= 0) continue;
      x.push(series.x[i]);
      y.push(Math.max(0, (series.y[i] - series.y[i - 1]) / dt));
    }
    return { ...series, x, y };
  }

  function smooth(y, weight) { // exponential, corrected for its beginning
    if (!weight) return y;
    let last = 0, n = 0;
    return y.map((v) => {
      if (v == null) return v;
      last = last * weight + (1 - weight) * v;
      n += 1;
      return last / (1 - weight ** n);
    });
  }

  function joined(list) { // columns over one x, as uPlot wants them
    if (list.length === 1) return [list[0].x, list[0].y];
    return uPlot.join(list.map((one) => [one.x, one.y]));
  }

  function bars(list, show) { // one value of each and no curve: beside each other, all from nought on
    const most = Math.max(...list.map((one) => Math.abs(one.y[0])));
    return list.map((one) => {
      const row = document.createElement("div"), bar = document.createElement("i"), label = document.createElement("bdi"), value = document.createElement("span");
      row.className = "bar";
      label.textContent = one.label;
      value.textContent = show(one.y[0]);
      bar.style.width = `${most ? (100 * Math.abs(one.y[0])) / most : 0}%`;
      bar.style.background = one.colour;
      bar.classList.toggle("below", one.y[0] < 0);
      const track = document.createElement("span");
      track.append(bar);
      row.append(label, track, value);
      return row;
    });
  }

  class Chart {
    constructor(figure, sources, options) {
      this.figure = figure;
      this.sources = sources; // [{url, label, colour}]
      this.unit = figure.dataset.unit ?? "plain";
      this.options = options;
      this.range = null;
      this.series = [];
      this.plot = null;
    }

    async load() {
      const time = this.options.time() || this.unit !== "plain";
      const all = await Promise.all(this.sources.map(async (source) => {
        const url = new URL(source.url, location.href);
        // The lowest and the highest of each pixel: more can't be seen.
        url.searchParams.set("points", Math.round(2 * devicePixelRatio * this.figure.querySelector(".plot").clientWidth) || 800);
        if (time) url.searchParams.set("x", "time");
        if (this.range) { url.searchParams.set("from", this.range[0]); url.searchParams.set("to", this.range[1]); }
        const answer = await fetch(url, { headers: { Accept: "application/json" } });
        if (!answer.ok) throw new Error(answer.status);
        return (await answer.json()).map((one) => ({ ...one, label: source.label ?? one.name, colour: source.colour, dash: source.dash }));
      }));
      this.series = all.flat().filter((one) => one.x.length);
      this.draw();
    }

    draw() {
      const box = this.figure.querySelector(".plot");
      const raw = this.series.map((one) => (this.unit === "slope" ? slope(one) : one));
      const weight = this.unit === "plain" ? this.options.smooth() : 0;
      let list = raw.map((one) => ({ ...one, y: smooth(one.y, weight) }));
      const by = list[0]?.by ?? "step";
      const began = this.options.relative && by === "time";
      if (began) list = list.map((one) => ({ ...one, x: one.x.map((x) => x - one.x[0]) }));
      const last = this.figure.querySelector(".last");
      if (last) last.textContent = list.length === 1 ? units[this.unit](raw[0].y.at(-1)) + (this.unit === "plain" && raw[0].count > raw[0].x.length ? ` · ${raw[0].count.toLocaleString()} values` : "") : "";
      if (!list.some((one) => one.x.length > 1)) {
        this.plot?.destroy();
        this.plot = null;
        this.figure.classList.add("short");
        if (list.length > 1) box.replaceChildren(...bars(list, units[this.unit]));
        else box.textContent = list.length ? `One value: ${units[this.unit](list[0].y[0])}` : "No values yet.";
        return;
      }
      this.figure.classList.remove("short");
      if (!this.plot) box.textContent = "";
      this.plot?.destroy();
      const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), size: 4 }, font: "11px system-ui", size: 26 };
      const log = this.options.log() && this.unit === "plain";
      this.plot = new uPlot({
        width: box.clientWidth,
        height: box.clientHeight,
        scales: { x: { time: by === "time" && !began }, y: log ? { distr: 3 } : this.unit in LEAST ? { range: rangeOf(this.unit) } : {} },
        axes: [by !== "time" ? axis : { ...axis, values: (_, at, axisIdx, space, step) => (began ? spans(at) : times(at, step)) }, { ...axis, size: 56, ...(this.unit === "bytes" ? { incrs: POWERS } : {}), values: (_, at, axisIdx, space, step) => (log ? at.map((v) => (v == null ? "" : units.plain(v))) : ticks(this.unit, at, step)) }],
        legend: { show: false },
        cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 6 }, sync: this.options.sync ? { key: this.options.sync } : undefined },
        series: [{}, ...list.map((one, i) => ({
          label: one.label, stroke: one.colour ?? COLOURS[i % COLOURS.length], width: 1.4, spanGaps: true, dash: one.dash,
          points: { show: one.x.length < 3 },
        }))],
        hooks: {
          setSelect: [(plot) => {
            if (plot.select.width < 4) return;
            this.range = [plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x")];
            plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            if (!began) this.load();
          }],
          setCursor: [(plot) => this.point(plot, list, by, began)],
        },
      }, joined(list), box);
      this.plot.over.addEventListener("dblclick", () => { this.range = null; this.load(); });
      this.plot.root.setAttribute("role", "img");
      this.plot.root.setAttribute("aria-label", `${list.map((one) => one.label).join(", ")}: from ${units[this.unit](list[0].y[0])} to ${units[this.unit](list[0].y.at(-1))}`);
    }

    point(plot, list, by, began) {
      const last = this.figure.querySelector(".last");
      if (!last) return;
      const i = plot.cursor.idx;
      if (i == null) { if (this.kept != null) { last.textContent = this.kept; this.kept = null; } return; }
      if (this.kept == null) this.kept = last.textContent;
      const x = plot.data[0][i];
      const where = by === "time" && !began ? new Date(x * 1000).toLocaleTimeString() : began ? `${x.toFixed(1)} s` : `step ${x}`;
      const values = plot.data.slice(1).map((column, n) => (column[i] == null ? null : `${list.length > 1 ? list[n].label + " " : ""}${units[this.unit](column[i])}`)).filter(Boolean);
      last.textContent = `${where}: ${values.slice(0, 4).join(" · ")}`;
    }

    resize() {
      const box = this.figure.querySelector(".plot");
      this.plot?.setSize({ width: box.clientWidth, height: box.clientHeight });
    }
  }

  window.isthmusCharts = { Chart, COLOURS, units };

  const section = document.querySelector("#charts");
  if (!section) return;
  const base = section.dataset.series;
  const options = {
    time: () => document.querySelector("#chart-time").checked,
    log: () => document.querySelector("#chart-log").checked,
    smooth: () => Number(document.querySelector("#chart-smooth").value),
    sync: "job",
  };
  const charts = [];
  function add(figure) {
    const names = figure.dataset.names ? JSON.parse(figure.dataset.names) : [figure.dataset.name];
    const url = new URL(base, location.href);
    for (const name of names) url.searchParams.append("name", name);
    const chart = new Chart(figure, [{ url: url.href }], options);
    charts.push(chart);
    return chart.load().catch(() => {});
  }
  const began = performance.now();
  Promise.all([...section.querySelectorAll("figure.chart")].map(add)).then(() => { section.dataset.drawn = String(Math.round(performance.now() - began)); });
  for (const button of section.querySelectorAll(".more-chart")) {
    button.addEventListener("click", () => { add(newFigure(button.dataset.name)); button.remove(); });
  }
  function newFigure(name) {
    const figure = document.createElement("figure");
    figure.className = "chart";
    figure.dataset.name = name;
    const caption = document.createElement("figcaption");
    const label = document.createElement("bdi");
    label.textContent = name;
    const last = document.createElement("span");
    last.className = "last num";
    const plot = document.createElement("div");
    plot.className = "plot";
    caption.append(label, " ", last);
    figure.append(caption, plot);
    document.querySelector("#chart-grid").append(figure);
    document.querySelector("#no-metrics")?.remove();
    return figure;
  }

  const redraw = () => charts.forEach((chart) => chart.draw());
  document.querySelector("#chart-log").addEventListener("change", redraw);
  document.querySelector("#chart-smooth").addEventListener("input", redraw);
  document.querySelector("#chart-time").addEventListener("change", () => charts.forEach((chart) => { chart.range = null; chart.load(); }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let pending;
  addEventListener("resize", () => { clearTimeout(pending); pending = setTimeout(() => charts.forEach((chart) => chart.resize()), 120); });

  // While the job runs: what is new, often at first, then as often as one can see the difference.
  let pause = 1500;
  async function follow() {
    const lead = document.querySelector("#job");
    const ended = lead?.dataset.ended === "yes" || ["COMPLETED", "FAILED", "KILLED"].includes(lead?.querySelector("[data-state]")?.dataset.state);
    if (!document.hidden) {
      const known = new Set(charts.flatMap((chart) => (chart.figure.dataset.names ? JSON.parse(chart.figure.dataset.names) : [chart.figure.dataset.name])));
      try {
        const answer = await fetch(base.replace("/series", "/series-names"), { headers: { Accept: "application/json" } });
        if (answer.ok) {
          const found = await answer.json();
          for (const name of found.own) if (!known.has(name) && charts.length < 24) await add(newFigure(name));
          for (const one of found.system) {
            if (one.names.every((name) => known.has(name))) continue;
            const figure = newFigure(one.title);
            delete figure.dataset.name;
            figure.dataset.names = JSON.stringify(one.names);
            figure.dataset.unit = one.unit;
            await add(figure);
          }
        }
        await Promise.all(charts.filter((chart) => !chart.range && !chart.kept).map((chart) => chart.load()));
      } catch { /* the banner says that the server is away */ }
    }
    if (ended) return;
    pause = Math.min(pause * 1.15, 8000);
    setTimeout(follow, pause);
  }
  if (section.dataset.live === "yes") setTimeout(follow, pause);
})();
