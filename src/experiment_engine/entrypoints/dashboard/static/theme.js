// Blocking and short: sets the theme before the first paint, then wires the switch.
(() => {
  const root = document.documentElement, key = "theme";
  const forced = root.dataset.theme;
  let now = forced && forced !== "auto" ? forced : localStorage.getItem(key) || "auto";
  root.dataset.theme = now;
  addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-theme-toggle]");
    if (!button) return;
    button.addEventListener("click", () => {
      const dark = now === "dark" || (now === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
      now = dark ? "light" : "dark";
      localStorage.setItem(key, now);
      root.dataset.theme = now;
    });
  });
})();
