// Not a module, so that it runs before anything is drawn: the page must not flash.
(() => {
  const words = ["automatic", "light", "dark"];
  const root = document.documentElement;
  const apply = (theme) => {
    if (theme === "automatic") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };
  let theme = "automatic";
  try { // storage may be forbidden
    const kept = localStorage.getItem("quoit.theme");
    if (words.includes(kept)) theme = kept;
  } catch { /* then nothing is remembered */ }
  apply(theme);
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => { button.textContent = `Theme: ${theme}`; };
    show();
    button.addEventListener("click", () => {
      theme = words[(words.indexOf(theme) + 1) % words.length];
      apply(theme);
      show();
      try { localStorage.setItem("quoit.theme", theme); } catch { /* as above */ }
    });
  });
})();
