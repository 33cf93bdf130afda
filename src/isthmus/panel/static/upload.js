// Uploads in pieces, with progress: a file, or several and whole folders as one stream. What was cut goes on: the server
// says from where, for the same name, version and size.
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

  // A folder is sent as its canonical tar (docs/site-protocol.md, "Digests"), which the server checks. It is made of what
  // the browser has of the files: nothing is read before it is sent.
  const text = new TextEncoder();
  const block = (name, kind, mode, size) => {
    const made = new Uint8Array(512);
    const put = (bytes, at) => made.set(typeof bytes === "string" ? text.encode(bytes) : bytes, at);
    put(name.subarray(0, 100), 0);
    put(`${mode.toString(8).padStart(7, "0")}\0${"0000000\0".repeat(2)}`, 100);
    if (size < 8 ** 11) put(`${size.toString(8).padStart(11, "0")}\0`, 124);
    else {
      made[124] = 0x80;
      for (let at = 135, left = size; left > 0; at -= 1, left = Math.floor(left / 256)) made[at] = left % 256;
    }
    put(`${"00000000000\0"}${" ".repeat(8)}${kind}`, 136);
    put("ustar  \0", 257);
    put(`${made.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, "0")}\0 `, 148);
    return made;
  };
  const padding = (size) => new Uint8Array((512 - (size % 512)) % 512);
  const header = (path, folder, size) => {
    const name = text.encode(folder ? `${path}/` : path);
    const parts = [];
    if (name.length > 100) parts.push(block(text.encode("././@LongLink"), "L", 0, name.length + 1), name, new Uint8Array(1), padding(name.length + 1));
    parts.push(block(name, folder ? "5" : "0", folder ? 0o755 : 0o644, folder ? 0 : size));
    return parts;
  };
  const byBytes = (one, other) => { // a name at a time, each by its bytes: a folder before what lies in it
    const [a, b] = [one.split("/"), other.split("/")];
    for (let n = 0; n < Math.min(a.length, b.length); n += 1) {
      if (a[n] === b[n]) continue;
      const [x, y] = [text.encode(a[n]), text.encode(b[n])];
      for (let at = 0; at < Math.min(x.length, y.length); at += 1) if (x[at] !== y[at]) return x[at] - y[at];
      return x.length - y.length;
    }
    return a.length - b.length;
  };
  function folderOf(files) { // Map of path -> File
    const members = new Map(files);
    for (const path of files.keys()) {
      const parts = path.split("/");
      for (let n = 1; n < parts.length; n += 1) members.set(parts.slice(0, n).join("/"), null);
    }
    const parts = [];
    for (const path of [...members.keys()].sort(byBytes)) {
      const file = members.get(path);
      parts.push(...header(path, !file, file?.size ?? 0));
      if (file) parts.push(file, padding(file.size));
    }
    return new Blob([...parts, new Uint8Array(1024)]);
  }

  const form = document.querySelector("#upload");
  if (!form) return;
  const PIECE = 8 << 20;
  const $ = (id) => document.getElementById(id);
  const [fault, told, bar, pause] = [$("up-fault"), $("up-told"), $("up-progress"), $("up-pause")];
  const { csrf } = window.isthmus ?? { csrf: document.querySelector('meta[name="csrf"]').content };
  let running = false;
  let paused = false;

  // What was chosen: one file as it is; several, or a folder, as a folder.
  let content = null;
  function choose(files, below) {
    const list = [...files];
    if (!list.length) return;
    const root = below ? list[0].webkitRelativePath.split("/")[0] : "";
    const named = new Map(list.map((file) => [below ? file.webkitRelativePath.slice(root.length + 1) : file.name, file]));
    const folder = below || list.length > 1;
    content = { data: folder ? folderOf(named) : list[0], folder };
    const bytes = list.reduce((sum, file) => sum + file.size, 0);
    $("up-chosen").textContent = folder ? `${list.length} ${list.length === 1 ? "file" : "files"}, ${size(bytes)}: kept as one folder` : `${list[0].name}, ${size(bytes)}`;
    const guess = below ? root : list.length === 1 ? list[0].name.replace(/\.[^.]*$/, "") : "";
    if (!$("up-name").value) $("up-name").value = guess.replace(/[^\w.+-]/g, "-").replace(/^[^\w]+/, "");
    if (below) $("up-file").value = ""; else $("up-folder").value = "";
  }
  $("up-file").addEventListener("change", (event) => choose(event.target.files, false));
  $("up-folder").addEventListener("change", (event) => choose(event.target.files, true));
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

  const size = (n) => (n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(0)} KiB` : n < 1073741824 ? `${(n / 1048576).toFixed(1)} MiB` : `${(n / 1073741824).toFixed(2)} GiB`);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    fault.hidden = true;
    if (!content) {
      fault.textContent = "Choose a file, several files or a folder first.";
      fault.hidden = false;
      return;
    }
    const file = content.data;
    running = true;
    bar.hidden = pause.hidden = false;
    try {
      const zones = form.zones.value.split(",").map((zone) => zone.trim()).filter(Boolean);
      const labels = Object.fromEntries(form.labels.value.split(",").map((one) => one.trim()).filter(Boolean).map((one) => {
        const [name, ...rest] = one.split("=");
        if (!name || !rest.length) throw new Error(`${one} is not a label. Write it like team=vision.`);
        return [name, rest.join("=")];
      }));
      const what = { labels, kind: form.dataset.kind, name: form.elements.name.value.trim(), version: form.version.value.trim(), zones, description: form.description.value.trim(), size: file.size, is_folder: content.folder };
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
