// The browser of episodes.  Text from runs enters the page as textContent only, never as markup.
(() => {
  const STOPS = {
    done: "the environment ended it",
    turn_limit: "out of turns",
    context_limit: "out of context",
    repetition: "the agent repeated itself",
    error: "fault of the infrastructure",
  };
  const CHANGES = {
    won: ["▲", "won: failed before, succeeds after"],
    lost: ["▼", "lost: succeeded before, fails after"],
    kept: ["●", "kept: succeeds both times"],
    failed: ["○", "failed both times"],
    other: ["·", "lost to a fault, or played once"],
  };
  const ALL = "";

  function node(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }

  function changeOf(before, after) {
    const known = (episode) => episode && episode.outcome !== "fault";
    if (!known(before) || !known(after)) return "other";
    if (before.outcome === after.outcome) return after.outcome === "success" ? "kept" : "failed";
    return after.outcome === "success" ? "won" : "lost";
  }

  // One entry for each task of each shelf, in the order of the page.
  function entriesOf(data) {
    const episode = (number) => (number < 0 ? null : data.episodes[number]);
    return data.shelves.flatMap((shelf) => shelf.pairs.map(([task, first, last]) => {
      const [before, after] = [episode(first), episode(last)];
      return { shelf, task, before, after, change: changeOf(before, after), key: [shelf.method, shelf.seed, shelf.environment, task].join("\n") };
    }));
  }

  // The numbers of all texts that contain what is searched for; an episode is found by its numbers.
  function matching(data, words) {
    const wanted = words.toLowerCase();
    return new Set(data.texts.flatMap((text, number) => (text.toLowerCase().includes(wanted) ? [number] : [])));
  }

  const contains = (episode, found) => Boolean(episode)
    && (found.has(episode.final) || found.has(episode.error) || episode.turns.some((turn) => turn.slice(0, 3).some((text) => found.has(text))));

  function stripOf(tokens) {
    const [total, ...bounds] = tokens;
    const strip = node("div", "strip");
    let carrying = 0;
    for (let at = 0; at < bounds.length; at += 2) {
      const span = node("span", "");
      span.style.left = `${100 * bounds[at] / total}%`;
      span.style.width = `${100 * (bounds[at + 1] - bounds[at]) / total}%`;
      strip.append(span);
      carrying += bounds[at + 1] - bounds[at];
    }
    strip.setAttribute("role", "img");
    strip.setAttribute("aria-label", `${carrying} of ${total} tokens would carry loss: those of the agent's ${bounds.length / 2} turns`);
    strip.title = strip.getAttribute("aria-label");
    return strip;
  }

  // The first turn in which two episodes of one task act differently; Infinity if none.
  function partingOf(before, after) {
    if (!before || !after) return Infinity;
    const shared = Math.min(before.turns.length, after.turns.length);
    const acted = ([, thought, action]) => action || thought; // a reply without the word "Action:" is all one text
    for (let at = 0; at < shared; at += 1) if (acted(before.turns[at]) !== acted(after.turns[at])) return at;
    return before.turns.length === after.turns.length ? Infinity : shared;
  }

  function showEpisode(place, heading, episode, texts, parting) {
    const title = node("h3", "", heading);
    title.id = `${place.id}-heading`;
    place.replaceChildren(title);
    place.scrollTop = 0;
    if (!episode) {
      place.append(node("p", "facts", "Not played."));
      return;
    }
    const turns = episode.turns.length;
    const facts = [`${turns} turn${turns === 1 ? "" : "s"}`, `reward ${episode.reward}`, STOPS[episode.stop] ?? episode.stop];
    if (episode.tokens) facts.push(`${episode.tokens[0]} tokens`);
    place.append(node("p", "facts", node("span", `verdict ${episode.outcome}`, episode.outcome), ` ${facts.join(" · ")}`));
    if (episode.tokens) place.append(stripOf(episode.tokens));
    place.append(node("details", "", node("summary", "", "Instruction"), node("p", "instruction", texts[episode.instruction])));
    const labelled = (className, label, text) => node("div", className, node("span", "label", label), text);
    episode.turns.forEach(([observation, thought, action, isCut], at) => {
      if (at === parting) place.append(node("p", "parting", "from here on the two episodes differ"));
      const tokens = episode.tokens ? ` · ${episode.tokens[2 * at + 2] - episode.tokens[2 * at + 1]} tokens` : "";
      const response = node("div", "response", node("span", "label", `agent, turn ${at + 1}${tokens}`));
      response.append(node("span", "thought", texts[thought]), node("span", "action", texts[action]));
      if (isCut) response.append(node("span", "label", "cut at the token limit"));
      place.append(labelled("observation", "environment", texts[observation]), response);
    });
    if (texts[episode.final]) place.append(labelled("observation", "environment, at the end", texts[episode.final]));
    if (texts[episode.error]) place.append(labelled("observation", "fault", texts[episode.error]));
  }

  function fill(select, values, labelOf = String) {
    const options = [["all", ALL], ...values.map((value) => [labelOf(value), String(value)])];
    select.replaceChildren(...options.map(([label, value]) => {
      const option = node("option", "", label);
      option.value = value;
      return option;
    }));
    select.closest("label").hidden = values.length < 2;
  }

  function setUp(data) {
    const [browser, tasks, before, after, search] = ["browser", "tasks", "before", "after", "by-text"].map(byId);
    const filters = { environment: byId("by-environment"), method: byId("by-method"), seed: byId("by-seed") };
    const changes = byId("by-change");
    const entries = entriesOf(data);
    let shown = [];
    let chosen = 0;

    for (const [name, select] of Object.entries(filters)) {
      fill(select, [...new Set(data.shelves.map((shelf) => shelf[name]))]);
    }
    fill(changes, Object.keys(CHANGES), (name) => CHANGES[name][1]);

    function choose(index) {
      tasks.children[chosen]?.setAttribute("aria-selected", "false");
      chosen = Math.max(0, Math.min(index, shown.length - 1));
      const item = tasks.children[chosen];
      if (item) {
        item.setAttribute("aria-selected", "true");
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
      const entry = shown[chosen];
      if (entry) {
        const parting = partingOf(entry.before, entry.after);
        showEpisode(before, `Before (round ${entry.shelf.rounds[0]})`, entry.before, data.texts, parting);
        showEpisode(after, `After (round ${entry.shelf.rounds[1]})`, entry.after, data.texts, parting);
      } else {
        showEpisode(before, "Before", null, data.texts, Infinity);
        showEpisode(after, "After", null, data.texts, Infinity);
      }
      const state = { filters: Object.values(filters).map((select) => select.value), change: changes.value, text: search.value, key: entry?.key };
      remember("sessionStorage", "fedse-episode", JSON.stringify(state));
    }

    function itemOf(entry, at) {
      const [mark, meaning] = CHANGES[entry.change];
      const sign = node("span", `mark ${entry.change}`, mark);
      sign.setAttribute("role", "img");
      sign.setAttribute("aria-label", meaning);
      const place = [entry.shelf.environment];
      if (!filters.method.closest("label").hidden) place.push(entry.shelf.method);
      if (!filters.seed.closest("label").hidden) place.push(`seed ${entry.shelf.seed}`);
      const item = node("li", "", sign, node("span", "task", entry.task), node("span", "place", place.join(" · ")));
      item.id = `task-${at}`;
      item.title = meaning;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      item.addEventListener("click", () => { choose(at); tasks.focus({ preventScroll: true }); });
      return item;
    }

    function list(key) {
      const words = search.value.trim();
      const found = words && matching(data, words);
      const isIn = (entry) => Object.entries(filters).every(([name, select]) => !select.value || String(entry.shelf[name]) === select.value);
      const isFound = (entry) => !words || entry.task.toLowerCase().includes(words.toLowerCase()) || contains(entry.before, found) || contains(entry.after, found);
      const inShelves = entries.filter((entry) => isIn(entry) && isFound(entry));
      [...changes.options].forEach((option) => {
        const count = inShelves.filter((entry) => !option.value || entry.change === option.value).length;
        option.textContent = `${option.value ? CHANGES[option.value][1] : "all"} (${count})`;
      });
      shown = inShelves.filter((entry) => !changes.value || entry.change === changes.value);
      tasks.replaceChildren(...shown.map(itemOf));
      const total = data.shelves.reduce((sum, shelf) => sum + shelf.total, 0);
      const all = entries.length < total ? `${entries.length} on this page; the runs have ${total}` : `${total}`;
      byId("count").textContent = `${shown.length} of ${all} tasks`;
      choose(Math.max(0, shown.findIndex((entry) => entry.key === key)));
    }

    const stay = () => list(shown[chosen]?.key);
    [...Object.values(filters), changes].forEach((select) => select.addEventListener("change", stay));
    search.addEventListener("input", stay);
    [["previous", -1], ["next", 1]].forEach(([name, step]) => byId(name).addEventListener("click", () => {
      choose(chosen + step);
      if (byId(name).disabled) tasks.focus({ preventScroll: true }); // a disabled button loses the focus to nobody
    }));
    const mark = byId("mark-loss");
    mark.addEventListener("change", () => browser.classList.toggle("marks-loss", mark.checked));
    browser.classList.toggle("marks-loss", mark.checked);

    const MOVES = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    // On a phone the other episode may be out of sight.
    const go = (place) => { place.focus({ preventScroll: true }); place.scrollIntoView({ block: "nearest", inline: "start" }); };
    const inList = (key) => {
      if (key === "Enter") go(before);
      else if (key in MOVES) choose(chosen + MOVES[key]);
      else return false;
      return true;
    };
    const inEpisodes = (key) => {
      if (key === "ArrowLeft") go(before);
      else if (key === "ArrowRight") go(after);
      else if (key === "Escape") tasks.focus();
      else return false;
      return true;
    };
    const inSearch = (key) => {
      if (key !== "Enter" && key !== "Escape") return false;
      tasks.focus();
      return true;
    };
    const anywhere = (key) => {
      if (key === "j" || key === "k") choose(chosen + (key === "j" ? 1 : -1));
      else if (key === "/") search.focus();
      else return false;
      return true;
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const at = document.activeElement;
      if (!browser.contains(at)) return; // single letters may be commands of the reader's own tools elsewhere
      let isUsed = false;
      if (at === search) isUsed = inSearch(event.key);
      else if (at === tasks) isUsed = inList(event.key) || anywhere(event.key);
      else if (before.contains(at) || after.contains(at)) {
        const place = before.contains(at) ? before : after;
        isUsed = inEpisodes(event.key) || anywhere(event.key);
        if (!at.isConnected) place.focus({ preventScroll: true }); // another task's episode has replaced it
      }
      else if (at.tagName !== "SELECT") isUsed = anywhere(event.key);
      if (isUsed) event.preventDefault();
    });

    let state = null;
    try { state = JSON.parse(recall("sessionStorage", "fedse-episode")); } catch { /* not ours */ }
    const restore = (select, value) => { if ([...select.options].some((option) => option.value === value)) select.value = value; };
    restore(filters.method, data.preferred);
    Object.values(filters).forEach((select, at) => restore(select, state?.filters?.[at]));
    restore(changes, state?.change);
    search.value = state?.text ?? "";
    browser.hidden = false;
    list(state?.key);
  }

  const source = byId("episode-data");
  if (source) {
    unpack(source.textContent).then(setUp).catch((fault) => {
      const text = `The episodes cannot be shown: this browser does not unpack them (${fault}). Current ones do.`;
      source.before(node("p", "notice", text));
    });
  }
})();
