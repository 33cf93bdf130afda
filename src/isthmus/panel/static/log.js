// The log: its end, followed while it grows; earlier pieces as one scrolls up; search by the server. However long the
// log is, only a window of it is in the page.
"use strict";
(() => {
  const section = document.querySelector("#log");
  if (!section) return;
  const text = section.querySelector("#log-text");
  const place = section.querySelector("#log-place");
  const follow = section.querySelector("#log-follow");
  const hits = section.querySelector("#log-hits");
  const WINDOW = 1 << 20; // characters in the page
  const PIECE = 1 << 16;
  let attempt = section.dataset.attempt;
  let begin = Number(section.dataset.begin);
  let end = Number(section.dataset.end);
  let size = Number(section.dataset.size);
  let ended = section.dataset.ended === "yes";
  let busy = false;
  let parts = [{ begin, end, node: document.createTextNode(text.textContent) }];
  text.replaceChildren(parts[0].node);

  async function ask(query) {
    const url = new URL(section.dataset.log, location.href);
    for (const [name, value] of Object.entries({ attempt, ...query })) url.searchParams.set(name, value);
    const answer = await fetch(url, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  }

  const atEnd = () => text.scrollHeight - text.scrollTop - text.clientHeight < 40;
  const bytes = (n) => (n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(0)} KiB` : n < 1073741824 ? `${(n / 1048576).toFixed(1)} MiB` : `${(n / 1073741824).toFixed(2)} GiB`);
  function tell() {
    place.textContent = begin > 0 || end < size ? `${bytes(begin)} to ${bytes(end)} of ${bytes(size)}` : bytes(size);
  }

  function shrink(fromTop) {
    let length = parts.reduce((sum, part) => sum + part.node.length, 0);
    while (length > WINDOW && parts.length > 1) {
      const gone = fromTop ? parts.shift() : parts.pop();
      length -= gone.node.length;
      gone.node.remove();
    }
    begin = parts[0].begin;
    end = parts.at(-1).end;
  }

  function append(piece) {
    if (!piece.text) return;
    const node = document.createTextNode(piece.text);
    parts.push({ begin: piece.begin, end: piece.end, node });
    text.append(node);
    end = piece.end;
    shrink(true);
  }

  async function later() {
    if (busy || document.hidden) return;
    busy = true;
    try {
      if (!Number(attempt)) {
        const found = await ask({ attempt: 0, offset: 0 });
        if (!found.size) return;
        attempt = 0;
      }
      const pinned = follow.checked && atEnd();
      for (let rounds = 0; rounds < 8; rounds += 1) {
        const piece = await ask({ offset: end, limit: PIECE });
        size = Math.max(size, piece.size);
        ended = piece.ended;
        if (!piece.text) break;
        append(piece);
        if (piece.end >= piece.size) break;
      }
      if (pinned) text.scrollTop = text.scrollHeight;
      tell();
    } catch { /* the banner says that the server is away */ } finally { busy = false; }
  }

  async function earlier() {
    if (busy || begin <= 0) return;
    busy = true;
    try {
      const from = Math.max(0, begin - PIECE);
      const piece = await ask({ offset: from, limit: begin - from, lines: from > 0 ? 1 : "" });
      if (!piece.text) return;
      const before = text.scrollHeight;
      const node = document.createTextNode(piece.text);
      parts.unshift({ begin: piece.begin, end: piece.end, node });
      text.prepend(node);
      begin = piece.begin;
      text.scrollTop += text.scrollHeight - before;
      shrink(false);
      tell();
    } catch { /* as above */ } finally { busy = false; }
  }

  async function jump(offset, word) {
    const piece = await ask({ offset: Math.max(0, offset - PIECE / 4), limit: PIECE, lines: offset > PIECE / 4 ? 1 : "" });
    const node = document.createTextNode(piece.text);
    parts = [{ begin: piece.begin, end: piece.end, node }];
    begin = piece.begin;
    end = piece.end;
    text.replaceChildren(node);
    follow.checked = false;
    tell();
    const share = (offset - piece.begin) / Math.max(1, piece.end - piece.begin);
    const near = Math.floor(node.length * share);
    let at = node.data.toLowerCase().indexOf(word.toLowerCase(), Math.max(0, near - 200));
    if (at < 0) at = node.data.toLowerCase().indexOf(word.toLowerCase());
    if (at < 0) return;
    const range = document.createRange();
    range.setStart(node, at);
    range.setEnd(node, at + word.length);
    const box = range.getBoundingClientRect();
    text.scrollTop += box.top - text.getBoundingClientRect().top - text.clientHeight / 2;
    if (window.Highlight && CSS.highlights) CSS.highlights.set("found", new Highlight(range));
    else getSelection().setBaseAndExtent(node, at, node, at + word.length);
  }

  text.addEventListener("scroll", () => {
    if (text.scrollTop < 200) earlier();
    if (atEnd() && end < size) later();
  });
  follow.addEventListener("change", async () => {
    if (!follow.checked) return;
    if (end < size) {
      const piece = await ask({ offset: -PIECE, limit: PIECE });
      const node = document.createTextNode(piece.text);
      parts = [{ begin: piece.begin, end: piece.end, node }];
      begin = piece.begin;
      end = piece.end;
      text.replaceChildren(node);
    }
    text.scrollTop = text.scrollHeight;
  });

  let search = 0;
  section.querySelector("#log-find").addEventListener("submit", async (event) => {
    event.preventDefault();
    const word = event.target.q.value;
    const mine = (search += 1);
    hits.hidden = !word;
    hits.replaceChildren();
    if (!word) return;
    const note = document.createElement("li");
    note.className = "note";
    note.setAttribute("role", "status");
    hits.append(note);
    let offset = 0, count = 0;
    for (;;) {
      note.textContent = `Searching… ${count} found`;
      let found;
      try {
        const url = new URL(`${section.dataset.log}/search`, location.href);
        for (const [name, value] of Object.entries({ attempt, q: word, offset })) url.searchParams.set(name, value);
        const answer = await fetch(url, { headers: { Accept: "application/json" } });
        found = await answer.json();
        if (!answer.ok) throw new Error(found.detail);
      } catch (error) { note.textContent = String(error.message ?? error); return; }
      if (mine !== search) return;
      for (const hit of found.hits) {
        const item = document.createElement("li");
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = hit.line || " ";
        button.addEventListener("click", () => jump(hit.begin, word));
        item.append(button);
        hits.append(item);
        count += 1;
      }
      offset = found.next;
      if (found.done || count >= 1000) {
        note.textContent = count ? `${count}${found.done ? "" : " and more"} found` : "Not found.";
        if (count) hits.querySelector("button").focus();
        return;
      }
      note.textContent = `Searching… ${count} found, ${bytes(offset)} of ${bytes(found.size)}`;
    }
  });

  text.scrollTop = text.scrollHeight;
  tell();
  (async function watch() {
    if (follow.checked || end < size) { if (follow.checked) await later(); }
    const state = document.querySelector("#job [data-state]")?.dataset.state;
    const over = ["COMPLETED", "FAILED", "KILLED"].includes(state);
    if (over && ended) return;
    setTimeout(watch, over ? 3000 : 1000);
  })();
})();
