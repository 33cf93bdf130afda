// What every page does: times in the reader's zone, news from the server, marks, keys. Pages work without it.
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const csrf = $('meta[name="csrf"]')?.content ?? "";

  // ---- times

  const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
  const full = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

  function span(seconds) {
    const s = Math.max(0, Math.floor(seconds));
    const two = (n) => String(n).padStart(2, "0");
    if (s < 60) return `${s}s`;
    if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
    if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor((s % 3600) / 60))}m`;
    return `${Math.floor(s / 86400)}d${two(Math.floor((s % 86400) / 3600))}h`;
  }

  function told(at, form) {
    const now = new Date();
    const age = (now - at) / 1000;
    const today = at.toDateString() === now.toDateString();
    if (form === "clock") return today ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`;
    if (age < -30) return `in ${span(-age)}`;
    if (age < 45) return "just now";
    if (age < 3600) return `${Math.round(age / 60)} min ago`;
    if (age < 86400) return today ? minutes.format(at) : `${day.format(at)} ${minutes.format(at)}`;
    return at.getFullYear() === now.getFullYear() ? `${day.format(at)} ${minutes.format(at)}` : full.format(at);
  }

  function localise() {
    for (const element of $$("time[datetime]")) {
      const at = new Date(element.dateTime);
      const text = told(at, element.dataset.form);
      if (element.textContent !== text) element.textContent = text;
      if (!element.dataset.local) {
        element.title = `${exact.format(at)} (${element.title})`;
        element.dataset.local = "yes";
      }
    }
    const now = Date.now();
    for (const element of $$("[data-since]")) {
      const text = span((now - new Date(element.dataset.since)) / 1000);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  // ---- news

  const banner = $("#news");
  const page = $("[data-job-page]");
  let lost = false;
  let due = new Map(); // element -> the time from which it may be asked for again

  function say(text, back = false) {
    banner.textContent = text;
    banner.classList.toggle("back", back);
    banner.hidden = !text;
  }

  function concerns(element, news) {
    const wanted = element.dataset.news;
    if (wanted === "this") return news.changed?.includes(Number(page?.dataset.jobPage));
    if (element.matches("[data-rows]")) return Boolean(news.new) || (news.nouns?.includes("job") && !news.cells);
    return news.nouns?.some((noun) => wanted.split(" ").includes(noun));
  }

  // Regions are asked for again a moment after they changed: at once on one's own page, calmly on long lists.
  const waiting = new Map();
  function refresh(element) {
    if (waiting.has(element)) return;
    const pause = element.dataset.news === "this" ? 300 : 4000;
    const at = Math.max(Date.now() + 200, (due.get(element) ?? 0));
    waiting.set(element, setTimeout(() => {
      waiting.delete(element);
      if (document.hidden) { stale = true; return; }
      if (element.matches("[data-rows]") && $("input[name=job]:checked", element)) { refresh(element); return; }
      if (element.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) {
        due.set(element, Date.now() + 2000); refresh(element); return;
      }
      due.set(element, Date.now() + pause);
      element.dispatchEvent(new CustomEvent("isthmus:news"));
    }, at - Date.now()));
  }
  let stale = false;

  function everything() {
    for (const element of $$("[data-news]")) refresh(element);
  }

  function hear(news) {
    for (const [job, cells] of Object.entries(news.cells ?? {})) {
      for (const row of $$(`[data-job="${CSS.escape(job)}"]`)) {
        let changed = false;
        for (const [name, html] of Object.entries(cells)) {
          const cell = $(`[data-cell="${name}"]`, row);
          // The server escaped it: it is the same macro that made the row.
          if (cell && cell.dataset.html !== html) { cell.innerHTML = html; cell.dataset.html = html; changed = true; }
        }
        if (changed && row.matches("tr")) {
          row.classList.remove("changed"); void row.offsetWidth; row.classList.add("changed");
        }
      }
    }
    for (const element of $$("[data-news]")) if (concerns(element, news)) refresh(element);
    document.dispatchEvent(new CustomEvent("isthmus:heard", { detail: news }));
    localise();
  }

  // One tab of a browser listens and tells the others: browsers open few connections to one server.
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("isthmus") : null;
  if (channel) channel.onmessage = (event) => receive(event.data, false);

  function receive(message, mine) {
    if (mine) channel?.postMessage(message);
    if (message.kind === "news") hear(message.news);
    if (message.kind === "lost" && !lost) { lost = true; say("The server does not answer. What you see may be old; this page tries again by itself."); }
    if (message.kind === "back" && lost) { lost = false; say("The server is back.", true); setTimeout(() => say(""), 4000); everything(); }
    if (message.kind === "over") say("Your session is over. Load the page again to sign in.");
  }

  function listen() {
    return new Promise((resolve) => {
      let source;
      let retry;
      const open = () => {
        source = new EventSource("/live");
        // What happened between the page's making and now is asked for: nothing is missed.
        source.addEventListener("hello", () => { receive({ kind: "back" }, true); everything(); });
        source.addEventListener("over", () => { receive({ kind: "over" }, true); source.close(); resolve(); });
        source.onmessage = (event) => receive({ kind: "news", news: JSON.parse(event.data) }, true);
        source.onerror = () => {
          receive({ kind: "lost" }, true);
          if (source.readyState !== EventSource.CLOSED) return;
          // Refused, not cut: is it the session?
          fetch("/live-check", { headers: { Accept: "application/json" } }).then((answer) => {
            if (answer.status === 401) { receive({ kind: "over" }, true); resolve(); } else retry = setTimeout(open, 2000);
          }, () => { retry = setTimeout(open, 2000); });
        };
      };
      open();
      addEventListener("pagehide", () => { clearTimeout(retry); source.close(); resolve(); });
    });
  }

  if (banner) {
    const go = () => (navigator.locks ? navigator.locks.request("isthmus-live", listen) : listen());
    go();
    if (navigator.locks) setTimeout(async () => {
      // Where another tab listens, there is no hello here.
      const held = (await navigator.locks.query()).held.some((lock) => lock.name === "isthmus-live");
      if (held) everything();
    }, 300);
    addEventListener("pageshow", (event) => { if (event.persisted) { go(); everything(); } });
    document.addEventListener("visibilitychange", () => { if (!document.hidden && stale) { stale = false; everything(); } });
    for (const element of $$("[data-every]")) {
      // Until what it shows is over.
      setInterval(() => { if (!$("[data-over]", element)) refresh(element); }, 1000 * Number(element.dataset.every));
    }
  }
  document.addEventListener("htmx:after:swap", localise);

  // ---- tables: marks, bulk, drag

  const bar = $("#bulk-bar");
  function marks() {
    const rows = $$("input[name=job]");
    const marked = rows.filter((box) => box.checked);
    for (const box of rows) box.closest("tr")?.classList.toggle("marked", box.checked);
    const told = bar && $(".marked", bar);
    if (told) told.textContent = marked.length ? `${marked.length} marked` : "Mark jobs to act on several at once";
    const all = $("#mark-all");
    if (all) { all.checked = rows.length > 0 && marked.length === rows.length; all.indeterminate = marked.length > 0 && !all.checked; }
    return marked;
  }
  document.addEventListener("change", (event) => {
    if (event.target.id === "mark-all") for (const box of $$("input[name=job]")) box.checked = event.target.checked;
    if (event.target.matches("#mark-all, input[name=job]")) marks();
  });
  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirmMarked || event.target.dataset.confirm;
    if (question && !confirm(question)) { event.preventDefault(); return; }
    if (event.submitter?.matches(".button:not([formmethod])") && event.target.method === "post") {
      setTimeout(() => { event.submitter.disabled = true; });
      setTimeout(() => { event.submitter.disabled = false; }, 8000);
    }
  });

  const table = $("#jobs-table[data-drag]");
  if (table) {
    let dragged = null;
    const arm = () => { for (const row of $$("tr[data-job]", table)) row.draggable = true; };
    arm();
    document.addEventListener("htmx:after:swap", arm);
    table.addEventListener("dragstart", (event) => { dragged = event.target.closest("tr"); event.dataTransfer.effectAllowed = "move"; });
    table.addEventListener("dragover", (event) => {
      const row = event.target.closest("tr[data-job]");
      for (const other of $$(".drag-over", table)) other.classList.remove("drag-over");
      if (row && dragged && row !== dragged) { event.preventDefault(); row.classList.add("drag-over"); }
    });
    table.addEventListener("drop", (event) => {
      event.preventDefault();
      const row = event.target.closest("tr[data-job]");
      if (!row || !dragged || row === dragged) return;
      post("/jobs/order", { job: dragged.dataset.job, ahead_of: row.dataset.job });
    });
  }

  function post(path, fields) {
    const form = document.createElement("form");
    form.method = "post";
    form.action = path;
    for (const [name, value] of Object.entries({ csrf, ...fields })) {
      const input = document.createElement("input");
      Object.assign(input, { type: "hidden", name, value });
      form.append(input);
    }
    document.body.append(form);
    form.submit();
  }

  // ---- keys

  const places = { h: "/", j: "/jobs", w: "/workflows", s: "/sites", d: "/datasets", i: "/images", p: "/people", e: "/events" };
  let going = 0;
  function rowsOfPage() {
    return $$("tr[data-href]").filter((row) => row.offsetParent);
  }
  function move(step) {
    const rows = rowsOfPage();
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.classList.contains("at"));
    const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
    for (const row of rows) row.classList.toggle("at", row === next);
    next.scrollIntoView({ block: "nearest" });
    $("a", next)?.focus({ preventScroll: true });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (Date.now() - going < 1200 && places[event.key]) { location.href = places[event.key]; return; }
    going = 0;
    const act = {
      "/": () => $("#find")?.focus(),
      "?": () => $("#keys-help")?.showModal(),
      j: () => move(1),
      k: () => move(-1),
      g: () => { going = Date.now(); },
      n: () => { if ($('a[href="/submit"]')) location.href = "/submit"; },
      x: () => { const box = $("tr.at input[name=job]"); if (box) { box.checked = !box.checked; marks(); } },
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  document.addEventListener("click", (event) => {
    const menu = $("details.me[open]");
    if (menu && !menu.contains(event.target)) menu.open = false;
  });

  window.isthmus = { csrf, localise, refresh };
  localise();
  marks();
  setInterval(localise, 1000);
  document.documentElement.dataset.ready = "yes";
})();
