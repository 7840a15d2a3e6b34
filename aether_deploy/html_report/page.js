"use strict";
for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input");
  const show = () => slider.style.setProperty("--at", range.value + "%");
  range.addEventListener("input", show);
  show();
}
for (const viewer of document.querySelectorAll(".viewer")) {
  const buttons = viewer.querySelectorAll("button");
  const slider = viewer.querySelector(".slider");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      const zoom = button.dataset.zoom;
      slider.classList.toggle("zoomed", zoom !== "fit");
      slider.style.setProperty("--zoom", zoom === "fit" ? 1 : zoom);
    });
  }
}
