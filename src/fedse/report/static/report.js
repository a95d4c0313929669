"use strict";
// The page works without this script but for the theme, the episodes and the reloading of a live page.
// Text from runs enters the page as textContent only, never as markup.

(() => {
  const byId = (id) => document.getElementById(id);

  // Storage may be switched off, or not there for files.
  const remember = (store, key, value) => { try { window[store].setItem(key, value); } catch { /* not remembered */ } };
  const recall = (store, key) => { try { return window[store].getItem(key); } catch { return null; } };

  function setUpTheme() {
    const button = byId("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const chosen = () => document.documentElement.dataset.theme;
    const isDark = () => (chosen() ? chosen() === "dark" : system.matches);
    const show = () => { button.setAttribute("aria-pressed", String(isDark())); };
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
    const show = () => {
      button.setAttribute("aria-pressed", String(paused));
      button.textContent = paused ? "Resume" : "Pause";
    };
    button.addEventListener("click", () => {
      paused = !paused;
      remember("sessionStorage", "fedse-paused", String(paused));
      show();
    });
    setInterval(() => { if (!paused) location.reload(); }, 1000 * Number(meta.content));
    show();
  }

  const STOPS = {
    done: "the environment ended it",
    turn_limit: "out of turns",
    context_limit: "out of context",
    repetition: "the agent repeated itself",
    error: "fault of the infrastructure",
  };

  function node(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function labelled(className, label, text) {
    const made = node("div", className);
    made.append(node("span", "label", label), document.createTextNode(text));
    return made;
  }

  function responseNode(turn) {
    const made = node("div", "response");
    made.append(node("span", "label", "agent"), node("span", "thought", turn.thought), node("span", "action", turn.action));
    if (turn.truncated) made.append(node("span", "label", "cut at the token limit"));
    return made;
  }

  function showEpisode(place, heading, episode, instructions) {
    place.replaceChildren(node("h3", "", heading));
    place.scrollTop = 0;
    if (!episode) {
      place.append(node("p", "facts", "Not played."));
      return;
    }
    const verdict = node("p", "facts");
    const turns = episode.turns.length;
    const facts = [`${turns} turn${turns === 1 ? "" : "s"}`, `reward ${episode.reward}`, STOPS[episode.stop] ?? episode.stop];
    if (episode.tokens) facts.push(`${episode.tokens[0]} of ${episode.tokens[1]} tokens would carry loss`);
    verdict.append(node("span", `verdict ${episode.outcome}`, episode.outcome), ` · ${facts.join(" · ")}`);
    const rules = node("details");
    rules.append(node("summary", "", "Instruction"), node("p", "instruction", instructions[episode.instruction]));
    place.append(verdict, rules);
    for (const turn of episode.turns) {
      place.append(labelled("observation", "environment", turn.observation), responseNode(turn));
    }
    if (episode.final) place.append(labelled("observation", "environment, at the end", episode.final));
    if (episode.error) place.append(labelled("observation", "fault", episode.error));
  }

  function outcomeOf(pair) {
    const found = [pair.before, pair.after].map((episode) => (episode ? episode.outcome : "other"));
    return found.every((outcome) => outcome === "success" || outcome === "failure") ? found.join("-") : "other";
  }

  function setUpBrowser() {
    const source = byId("episode-data");
    if (!source) return;
    const data = JSON.parse(source.textContent);
    const [browser, shelves, outcomes, tasks] = ["browser", "shelf", "outcome", "tasks"].map(byId);
    let shown = [];
    let chosen = 0;

    data.shelves.forEach((shelf, index) => {
      const option = node("option", "", `${shelf.environment} · ${shelf.run}`);
      option.value = String(index);
      shelves.append(option);
    });

    function choose(index) {
      chosen = Math.max(0, Math.min(index, shown.length - 1));
      [...tasks.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === chosen)));
      const item = tasks.children[chosen];
      if (item) {
        tasks.setAttribute("aria-activedescendant", item.id);
        const above = item.offsetTop - tasks.offsetTop;
        if (above < tasks.scrollTop) tasks.scrollTop = above;
        const below = above + item.offsetHeight - tasks.clientHeight;
        if (below > tasks.scrollTop) tasks.scrollTop = below;
      } else {
        tasks.removeAttribute("aria-activedescendant");
      }
      byId("previous").disabled = chosen <= 0;
      byId("next").disabled = chosen >= shown.length - 1;
      const shelf = data.shelves[Number(shelves.value)];
      const pair = shown[chosen] ?? { before: null, after: null };
      showEpisode(byId("before"), `Before (round ${shelf.rounds[0]})`, pair.before, data.instructions);
      showEpisode(byId("after"), `After (round ${shelf.rounds[1]})`, pair.after, data.instructions);
      remember("sessionStorage", "fedse-episode", JSON.stringify([shelves.value, outcomes.value, chosen]));
    }

    function list(index) {
      const shelf = data.shelves[Number(shelves.value)];
      shown = shelf.pairs.filter((pair) => !outcomes.value || outcomeOf(pair) === outcomes.value);
      tasks.replaceChildren(...shown.map((pair, at) => {
        const item = node("li", "", pair.task);
        item.id = `task-${at}`;
        item.setAttribute("role", "option");
        const verdicts = [pair.before, pair.after].map((episode) => (episode ? episode.outcome : "not played"));
        item.append(node("span", "verdicts", verdicts.join(" → ")));
        item.addEventListener("click", () => choose(at));
        return item;
      }));
      const all = shelf.pairs.length < shelf.total ? `${shelf.pairs.length} on this page, ${shelf.total} in the run` : `${shelf.total}`;
      byId("count").textContent = `${shown.length} tasks of ${all}`;
      choose(index);
    }

    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    tasks.addEventListener("keydown", (event) => {
      if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      choose(chosen + moves[event.key]);
    });
    shelves.addEventListener("change", () => list(0));
    outcomes.addEventListener("change", () => list(0));
    byId("previous").addEventListener("click", () => choose(chosen - 1));
    byId("next").addEventListener("click", () => choose(chosen + 1));
    byId("mark-loss").addEventListener("change", (event) => browser.classList.toggle("marks-loss", event.target.checked));

    const [shelf, outcome, index] = JSON.parse(recall("sessionStorage", "fedse-episode") ?? '["0", "", 0]');
    shelves.value = shelf in data.shelves ? shelf : "0";
    outcomes.value = outcome;
    browser.classList.add("marks-loss");
    browser.hidden = false;
    list(index);
  }

  setUpTheme();
  setUpReloading();
  setUpBrowser();
})();
