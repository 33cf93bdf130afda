// A file that is chosen becomes the text of a field, where it can be looked at before it is sent.
"use strict";
for (const input of document.querySelectorAll("input[type=file][data-text]")) {
  input.closest(".choosers").hidden = false;
  input.addEventListener("change", async () => {
    const file = input.files[0];
    if (!file) return;
    document.getElementById(input.dataset.text).value = await file.text();
    const name = input.dataset.name && document.getElementById(input.dataset.name);
    if (name) name.value = file.name;
    input.value = "";
  });
}
