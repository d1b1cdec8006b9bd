// Pointing at a picture says what is there. Everything can be read without this script.
"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const plots = [...document.querySelectorAll("figure.plot")].filter((plot) => plot.querySelector("svg"));

function words(value) {
  if (value === null) return "-";
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}

function pointAt(ratio) {
  const when = figures.from_s + ratio * (figures.until_s - figures.from_s);
  let nearest = 0;
  figures.when_s.forEach((at, i) => {
    if (Math.abs(at - when) < Math.abs(figures.when_s[nearest] - when)) nearest = i;
  });
  const at = figures.when_s[nearest];
  const left = (at - figures.from_s) / (figures.until_s - figures.from_s) * 100;
  for (const plot of plots) {
    const cursor = plot.querySelector(".cursor");
    cursor.hidden = false;
    cursor.style.left = `${left}%`;
    const values = figures.values[plot.dataset.chart];
    plot.querySelector("output").textContent = `${at} s: ` +
      figures.names.map((name, i) => `${name} ${words(values[i][nearest])}`).join(", ");
  }
}

for (const plot of plots) {
  const area = plot.querySelector(".area");
  const follow = (event) => {
    const box = area.getBoundingClientRect();
    pointAt(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };
  area.addEventListener("pointermove", follow);
  area.addEventListener("pointerdown", follow);
}

for (const gantt of document.querySelectorAll("figure.gantt")) {
  const say = (event) => {
    const title = event.target.closest("g")?.querySelector("title");
    if (title) gantt.querySelector("output").textContent = title.textContent;
  };
  gantt.addEventListener("pointerover", say);
  gantt.addEventListener("pointerdown", say);
}
