// Uploads in pieces, with progress. What was cut goes on: the server says from where, for the same name, version and size.
"use strict";
(() => {
  // SHA-256 (FIPS 180-4) a piece at a time: what browsers bring takes a whole file at once, and only over TLS.
  const K = new Int32Array(64);
  const FIRST = new Uint32Array(8);
  for (let n = 2, count = 0; count < 64; n += 1) {
    let prime = true;
    for (let d = 2; d * d <= n; d += 1) if (n % d === 0) { prime = false; break; }
    if (!prime) continue;
    const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32);
    if (count < 8) FIRST[count] = fraction(Math.sqrt(n));
    K[count] = fraction(Math.cbrt(n));
    count += 1;
  }

  class Sha256 {
    constructor() {
      this.h = Uint32Array.from(FIRST);
      this.rest = new Uint8Array(64);
      this.held = 0;
      this.length = 0;
      this.w = new Int32Array(64);
    }

    add(bytes) {
      this.length += bytes.length;
      let at = 0;
      if (this.held) {
        at = Math.min(64 - this.held, bytes.length);
        this.rest.set(bytes.subarray(0, at), this.held);
        this.held += at;
        if (this.held < 64) return this;
        this.block(this.rest, 0);
        this.held = 0;
      }
      for (; at + 64 <= bytes.length; at += 64) this.block(bytes, at);
      this.rest.set(bytes.subarray(at));
      this.held = bytes.length - at;
      return this;
    }

    block(bytes, at) {
      const { w, h } = this;
      for (let i = 0; i < 16; i += 1, at += 4) w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
      for (let i = 16; i < 64; i += 1) {
        const x = w[i - 15], y = w[i - 2];
        const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
        const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
        w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
      }
      let a = h[0] | 0, b = h[1] | 0, c = h[2] | 0, d = h[3] | 0, e = h[4] | 0, f = h[5] | 0, g = h[6] | 0, z = h[7] | 0;
      for (let i = 0; i < 64; i += 1) {
        const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
        const t1 = (z + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
        const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
        const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        z = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
      }
      h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e; h[5] += f; h[6] += g; h[7] += z;
    }

    hex() {
      const bits = this.length * 8;
      const end = new Uint8Array(((this.held < 56 ? 64 : 128) - this.held));
      end[0] = 0x80;
      new DataView(end.buffer).setUint32(end.length - 8, Math.floor(bits / 2 ** 32));
      new DataView(end.buffer).setUint32(end.length - 4, bits >>> 0);
      this.add(end);
      return [...this.h].map((word) => word.toString(16).padStart(8, "0")).join("");
    }
  }

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
      const digest = new Sha256();
      // Whatever is there already is read again for its digest, not sent again.
      const measure = async (upTo) => { while (digest.length < upTo) digest.add(new Uint8Array(await file.slice(digest.length, Math.min(upTo, digest.length + PIECE)).arrayBuffer())); };
      while (offset < file.size) {
        if (paused) { told.textContent = `paused at ${size(offset)} of ${size(file.size)}`; running = false; return; }
        await measure(Math.min(file.size, offset + PIECE));
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
      await measure(file.size);
      const made = await ask("POST", `/uploads/${encodeURIComponent(id)}/finish`, { digest: `sha256:${digest.hex()}` });
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
