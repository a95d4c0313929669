"use strict";
// The page works without this script but for the theme, the episodes and the reloading of a live page.
// Text from runs enters the page as textContent only, never as markup.

const byId = (id) => document.getElementById(id);

// Storage may be switched off, or not there for files.
const remember = (store, key, value) => { try { window[store].setItem(key, value); } catch { /* not remembered */ } };
const recall = (store, key) => { try { return window[store].getItem(key); } catch { return null; } };

(() => {
  function setUpTheme() {
    const button = byId("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const chosen = () => document.documentElement.dataset.theme;
    const isDark = () => (chosen() ? chosen() === "dark" : system.matches);
    const show = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    const saved = recall("localStorage", "fedse-theme");
    if (saved === "dark" || saved === "light") document.documentElement.dataset.theme = saved;
    button.addEventListener("click", () => {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      remember("localStorage", "fedse-theme", chosen());
      show();
    });
    system.addEventListener("change", show);
    show();
  }

  function setUpReloading() {
    const meta = document.querySelector('meta[name="fedse-refresh"]');
    if (!meta) return;
    const button = byId("pause");
    let paused = recall("sessionStorage", "fedse-paused") === "true";
    const show = () => { button.textContent = paused ? "Resume" : "Pause"; };
    button.addEventListener("click", () => {
      paused = !paused;
      remember("sessionStorage", "fedse-paused", String(paused));
      show();
    });
    setInterval(() => { if (!paused) location.reload(); }, 1000 * Number(meta.content));
    show();
  }

  // How long ago the moments on the page were; they stand there in UTC.
  function setUpMoments() {
    const moments = [...document.querySelectorAll("time[datetime]")].map((time) => [time, time.textContent]);
    const ago = (seconds) => {
      if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
      if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
      return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
    };
    const show = () => moments.forEach(([time, text]) => {
      time.textContent = `${text} (${ago((Date.now() - Date.parse(time.dateTime)) / 1000)} ago)`;
    });
    if (!moments.length) return;
    show();
    setInterval(show, 10000);
  }

  setUpTheme();
  setUpMoments();
  setUpReloading();
})();
