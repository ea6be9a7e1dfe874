"use strict";
// What a mark stands for, beside the pointer. Without this script browsers show the same as a title.
const tip = document.getElementById("tip");
for (const title of document.querySelectorAll(".chart [role=graphics-symbol] > title")) {
  title.parentNode.dataset.told = title.textContent;
  title.remove();
}
function show(event) {
  const told = event.target instanceof Element ? event.target.getAttribute("data-told") : null;
  tip.hidden = told === null;
  if (told === null) return;
  tip.textContent = told;
  const width = document.documentElement.clientWidth;
  tip.style.left = "0px";
  const left = Math.min(event.pageX + 12, window.scrollX + width - tip.offsetWidth - 8);
  tip.style.left = Math.max(window.scrollX + 8, left) + "px";
  tip.style.top = event.pageY - tip.offsetHeight - 12 + "px";
}
document.addEventListener("pointerover", show);
document.addEventListener("click", show);
