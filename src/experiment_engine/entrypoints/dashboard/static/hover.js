// A rule and a small table over charts that the server drew: by pointer, or by arrow keys.
const NS = "http://www.w3.org/2000/svg";
const make = (name, attributes) => {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

function wire(figure) {
  if (figure.dataset.wired) return;
  figure.dataset.wired = "1";
  const svg = figure.querySelector("svg"), tip = figure.querySelector("[data-tip]");
  const points = JSON.parse(figure.dataset.points);
  const rule = make("line", { class: "cross", y1: svg.dataset.y1, y2: svg.dataset.y0 });
  const dots = points[0].y.map((_, place) => make("circle", { r: 4, class: "dot dot-" + place }));
  const layer = make("g", { class: "hover" });
  layer.append(rule, ...dots);
  svg.append(layer);
  let at = -1;
  const show = (wanted) => {
    at = Math.max(0, Math.min(points.length - 1, wanted));
    const point = points[at];
    rule.setAttribute("x1", point.x); rule.setAttribute("x2", point.x);
    dots.forEach((dot, place) => { dot.setAttribute("cx", point.x); dot.setAttribute("cy", point.y[place]); });
    tip.querySelector("[data-day]").textContent = point.label;
    tip.querySelectorAll("[data-value]").forEach((cell) => { cell.textContent = point.v[cell.dataset.value]; });
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
    const left = point.x * scale, width = tip.offsetWidth;
    tip.style.left = (left + width + 24 > box.width ? left - width - 12 : left + 12) + "px";
    tip.style.top = point.y[0] * scale * 0.6 + "px";
    figure.classList.add("on");
  };
  const hide = () => figure.classList.remove("on");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / (box.width / svg.viewBox.baseVal.width);
    show(points.reduce((best, point, place) => (Math.abs(point.x - x) < Math.abs(points[best].x - x) ? place : best), 0));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: at < 0 ? points.length - 1 : at - 1, ArrowRight: at + 1, Home: 0, End: points.length - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); show(to); }
    if (event.key === "Escape") hide();
  });
}

document.querySelectorAll("[data-points]").forEach(wire);
document.addEventListener("htmx:after:swap", () => document.querySelectorAll("[data-points]").forEach(wire));
