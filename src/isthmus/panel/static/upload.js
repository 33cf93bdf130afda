// Uploads in pieces, with progress. What was cut goes on: the server says from where, for the same name, version and size.
"use strict";
(() => {
  const form = document.querySelector("#upload");
  if (!form) return;
  const PIECE = 8 << 20;
  const $ = (id) => document.getElementById(id);
  const [fault, told, bar, pause] = [$("up-fault"), $("up-told"), $("up-progress"), $("up-pause")];
  const { csrf } = window.isthmus ?? { csrf: document.querySelector('meta[name="csrf"]').content };
  let running = false;
  let paused = false;

  $("up-file").addEventListener("change", (event) => {
    const file = event.target.files[0];
    if (file && !$("up-name").value) $("up-name").value = file.name.replace(/\.[^.]*$/, "").replace(/[^\w.+-]/g, "-").replace(/^[^\w]+/, "");
  });
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) form.requestSubmit();
  });

  async function ask(method, path, body, json = true) {
    const headers = { "X-CSRF": csrf, Accept: "application/json" };
    headers["Content-Type"] = json ? "application/json" : "application/octet-stream";
    const answer = await fetch(path, { method, headers, body: json && body ? JSON.stringify(body) : body });
    const found = await answer.json();
    if (!answer.ok) throw Object.assign(new Error([found.detail, found.hint].filter(Boolean).join(" ")), { status: answer.status, code: found.code });
    return found;
  }

  const size = (n) => (n < 1048576 ? `${(n / 1024).toFixed(0)} KiB` : n < 1073741824 ? `${(n / 1048576).toFixed(1)} MiB` : `${(n / 1073741824).toFixed(2)} GiB`);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    const file = $("up-file").files[0];
    if (!file) return;
    running = true;
    fault.hidden = true;
    bar.hidden = pause.hidden = false;
    try {
      const zones = form.zones.value.split(",").map((zone) => zone.trim()).filter(Boolean);
      const what = { kind: form.dataset.kind, name: form.elements.name.value.trim(), version: form.version.value.trim(), zones, description: form.description.value.trim(), size: file.size };
      let { id, offset } = await ask("POST", "/uploads", what);
      const began = performance.now();
      const from = offset;
      while (offset < file.size) {
        if (paused) { told.textContent = `paused at ${size(offset)} of ${size(file.size)}`; running = false; return; }
        try {
          ({ offset } = await ask("PATCH", `/uploads/${encodeURIComponent(id)}?offset=${offset}`, file.slice(offset, offset + PIECE), false));
        } catch (error) {
          if (error.code === "offset") { ({ offset } = await ask("GET", `/uploads/${encodeURIComponent(id)}`)); continue; }
          if (error.status) throw error;
          told.textContent = "The server does not answer; it goes on when it is back.";
          await new Promise((resolve) => setTimeout(resolve, 2000));
          try { ({ offset } = await ask("GET", `/uploads/${encodeURIComponent(id)}`)); } catch (again) { if (again.status) throw again; }
          continue;
        }
        const rate = (offset - from) / ((performance.now() - began) / 1000);
        bar.value = offset / file.size;
        told.textContent = `${size(offset)} of ${size(file.size)}, ${size(rate)}/s`;
      }
      told.textContent = "Checking…";
      const made = await ask("POST", `/uploads/${encodeURIComponent(id)}/finish`, {});
      location.href = `/${form.dataset.kind}s/${encodeURIComponent(made.name)}@${encodeURIComponent(made.version)}`;
    } catch (error) {
      fault.textContent = error.message;
      fault.hidden = false;
      bar.hidden = pause.hidden = true;
      told.textContent = "";
    }
    running = false;
  });
})();
