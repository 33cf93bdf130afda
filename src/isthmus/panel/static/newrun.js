// Handing in a workflow: files that are chosen are read here and put into the form, where they can still be changed.
"use strict";
(() => {
  const form = document.getElementById("new-run");
  const told = document.getElementById("picked");
  const MOST_BYTES = 8 << 20;
  const rows = () => [...form.querySelectorAll(".document")];

  function row(number) {
    const found = rows()[number];
    if (found) return found;
    const last = rows().at(-1);
    const made = last.cloneNode(true);
    for (const fault of made.querySelectorAll(".fault")) fault.remove();
    made.id = `files[${number}]`;
    for (const element of made.querySelectorAll("input, textarea")) {
      element.id = element.name = `files[${number}].${element.matches("input") ? "name" : "text"}`;
      element.removeAttribute("aria-invalid");
      element.removeAttribute("aria-describedby");
      element.value = "";
    }
    const labels = made.querySelectorAll("label");
    labels[0].htmlFor = `files[${number}].name`;
    labels[1].htmlFor = `files[${number}].text`;
    labels[0].textContent = `Name of file ${number + 1}`;
    labels[1].textContent = `Content of file ${number + 1}`;
    last.after(made);
    return made;
  }

  async function take(files) {
    const size = files.reduce((sum, file) => sum + file.size, 0);
    if (size > MOST_BYTES) { told.textContent = "These are too large for the form: upload data under Data, and name it in the inputs."; return; }
    let taken = 0, left = 0;
    for (const file of files) {
      // A folder that was chosen is the place from which its files are named.
      const name = file.webkitRelativePath ? file.webkitRelativePath.split("/").slice(1).join("/") : file.name;
      let text;
      try { text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()); } catch { left += 1; continue; }
      if (name.startsWith(".") || text.includes("\0")) { left += 1; continue; }
      const known = rows().findIndex((one) => one.querySelector("input").value === name);
      const free = rows().findIndex((one) => !one.querySelector("input").value && !one.querySelector("textarea").value.trim());
      const target = row(known >= 0 ? known : free >= 0 ? free : rows().length);
      target.querySelector("input").value = name;
      const area = target.querySelector("textarea");
      area.value = text;
      area.rows = Math.min(24, text.split("\n").length + 1);
      taken += 1;
    }
    told.textContent = `${taken} ${taken === 1 ? "file" : "files"} taken${left ? `, ${left} left out: no text` : ""}.`;
  }

  form.querySelector(".choosers").hidden = false;
  for (const id of ["pick-files", "pick-folder"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => { take([...input.files]).then(() => { input.value = ""; }); });
  }
})();
