"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const WORDS = { "block": "blocked", "would-block": "would be blocked", "allow-sysctl": "allowed and sized", "allow": "allowed" };
  const VERDICTS = Object.keys(WORDS);

  // Whatever comes out of the data becomes text, never markup.
  const make = (name, text, classes) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = text;
    if (classes) element.className = classes;
    return element;
  };
  const count = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const seconds = (time) => time === null || time === undefined ? "–" : time.replace("T", " ").replace(/(\.\d+)?Z$/, "");
  const whoOf = (row) => row.who ?? (row.who_is === "others" ? "(others)" : "(unknown)");
  const requestOf = (row) => row.request ?? "(other names)";
  const ruleOf = (row) => row.rule ?? "(default)";
  const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

  // --- what is chosen

  const everything = () => ({ text: "", rule: "", host: "", verdicts: new Set(), who: null, request: null, bar: null });
  let chosen = everything();
  const lists = [];

  // What of a row is of the chosen host: of a group a part, of a record all or nothing.
  const ofHost = (row) => chosen.host === "" ? row : (row.parts ?? [row]).find(({ host }) => host === Number(chosen.host));

  const admits = (row, part) => {
    const time = part?.time ?? "";
    return part !== undefined
      && (chosen.verdicts.size === 0 || chosen.verdicts.has(row.verdict))
      && (chosen.rule === "" || ruleOf(row) === chosen.rule)
      && (chosen.who === null || whoOf(row) === chosen.who)
      && (chosen.request === null || requestOf(row) === chosen.request)
      && (chosen.bar === null || ((part.since ?? time) < chosen.bar.to && time >= chosen.bar.from))
      && chosen.text.split(/\s+/).every((word) => row.words.includes(word));
  };

  const apply = () => {
    for (const list of lists) {
      let shown = 0;
      let requests = 0;
      for (const row of list.rows) {
        const part = ofHost(row);
        const is = admits(row, part);
        row.element.hidden = !is;
        if (is) { shown += 1; requests += part.count; row.show?.(part); }
      }
      list.about(shown, requests);
    }
    for (const button of $("verdicts").children) {
      button.setAttribute("aria-pressed", String(chosen.verdicts.has(button.dataset.verdict)));
    }
    for (const select of $("filter").querySelectorAll("select")) {
      select.value = chosen[select.id];
    }
    $("chosen").replaceChildren(...[["who", chosen.who], ["request", chosen.request], ["bar", chosen.bar && `from ${seconds(chosen.bar.from)}`]]
      .filter(([, text]) => text !== null)
      .map(([key, text]) => {
        const button = make("button", `${text} ✕`);
        button.type = "button";
        button.setAttribute("aria-label", `do not filter by ${text}`);
        button.addEventListener("click", () => { chosen[key] = null; apply(); });
        return button;
      }));
    for (const bar of $("timeline").querySelectorAll("[data-series]")) {
      const is = (chosen.verdicts.size === 0 || chosen.verdicts.has(bar.dataset.series)) && (chosen.bar === null || data.bars[bar.place] === chosen.bar);
      bar.classList.toggle("is-faint", !is);
    }
  };

  // --- what it is about

  const requests = plural(data.requests, "request", "requests");
  const hosts = data.hosts.length > 3 ? `${data.hosts.length} hosts${data.more_hosts ? " and more" : ""}` : data.hosts.map(([name]) => name).join(", ");
  const span = data.bars.length ? `, ${seconds(data.bars[0].from)} to ${seconds(data.bars.at(-1).to)} UTC` : "";
  $("about").textContent = `${requests}${hosts ? ` on ${hosts}` : ""}${span}`;
  if (data.filters.length) $("about").textContent += `, only ${data.filters.join(" ")}`;
  $("notes").append(...data.notes.map((note) => make("li", note)));

  const total = (number, word, classes) => {
    const entry = make("div", null, classes);
    entry.append(make("dt", word), make("dd", count(number)));
    return entry;
  };
  $("totals").append(total(data.requests, "requests"), ...VERDICTS.map((word, at) => total(data.counts[at], WORDS[word], word)));
  if (data.counted) $("totals").append(total(data.counted, "of them counted, not written"));

  $("legend").append(...VERDICTS.filter((_, at) => data.counts[at]).map((word) => make("li", WORDS[word], word)));

  // --- when

  const SPANS = [[604800, "week"], [86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const lasting = (width) => {
    const [unit, name] = SPANS.find(([unit]) => width % unit === 0);
    return width === unit ? `a ${name}`.replace("a hour", "an hour") : `${width / unit} ${name}s`;
  };
  if (data.bars.length) {
    const most = data.bars.reduce((most, bar) => Math.max(most, bar.counts.reduce((a, b) => a + b)), 0);
    $("timeline-about").textContent = `Requests by verdict; a bar is ${lasting(data.width)}, the highest ${count(most)}.`
      + (data.counted ? " What was counted stands at the time of its last request." : "")
      + (data.without_time ? ` ${plural(data.without_time, "request tells", "requests tell")} no time.` : "");
  } else {
    $("timeline-about").textContent = "There is nothing to show.";
  }
  const title = (element, text) => {
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = text;
    element.append(title);
  };
  for (const bar of $("timeline").querySelectorAll("[data-series]")) {
    const word = bar.dataset.series;
    bar.place = data.bars.findIndex(({ label }) => label === bar.dataset.category);
    const { from, counts } = data.bars[bar.place];
    bar.classList.add(word, "can-choose");
    title(bar, `${seconds(from)}: ${count(counts[VERDICTS.indexOf(word)])} ${WORDS[word]}`);
    bar.addEventListener("click", () => {
      chosen.bar = chosen.bar === data.bars[bar.place] ? null : data.bars[bar.place];
      apply();
    });
  }

  // --- who asked for what

  const { nodes, links } = data.flows;
  const nameOf = ({ layer, name, verdict }) => {
    if (layer === 0) return name ?? "(unknown or others)";
    if (layer === 1) return name ?? "(other names)";
    const rule = name === null ? "other rules" : name === "" ? "by default" : `rule ${name}`;
    return `${WORDS[verdict]}, ${rule}`;
  };
  $("flows-about").textContent = nodes.length
    ? "From left to right: who asked, for what name, what was decided. The thinnest lines are drawn wider than they are. A click on a name filters what is below."
    : "There is nothing to show.";
  // As much as the room beside a node holds.
  const short = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
  for (const element of $("flows").querySelectorAll("[data-name]")) {
    const [node, requests] = nodes[Number(element.dataset.name)];
    if (node.verdict) element.classList.add(node.verdict);
    title(element, `${nameOf(node)}: ${count(requests)}`);
    choosable(element, node);
  }
  for (const element of $("flows").querySelectorAll("[data-source]")) {
    const [from, to] = [Number(element.dataset.source), Number(element.dataset.target)];
    const link = links.find((link) => link[0] === from && link[1] === to);
    const node = nodes[to][0];
    element.classList.add("is-link");
    if (node.verdict) element.classList.add(node.verdict);
    if (link) title(element, `${nameOf(nodes[from][0])} → ${nameOf(node)}: ${count(link[2])}`);
  }
  for (const element of $("flows").querySelectorAll("text")) {
    const [node, requests] = nodes[Number(element.textContent)];
    element.textContent = `${short(nameOf(node), node.layer === 2 ? 56 : 30)}  ${count(requests)}`;
    choosable(element, node);
  }
  function choosable(element, { layer, name, verdict }) {
    if (name === null) return;
    element.classList.add("can-choose");
    element.addEventListener("click", () => {
      if (layer === 0) chosen.who = name;
      if (layer === 1) chosen.request = name;
      if (layer === 2) {
        chosen.verdicts = new Set([verdict]);
        chosen.rule = name === "" ? "(default)" : name;
      }
      apply();
      $("filter-title").scrollIntoView();
    });
  }

  // --- connection tracking

  const { table } = data;
  const made = data.changes.length ? "" : " These records made no settings.";
  if (table === null) {
    $("table-about").textContent = `How full a table is or was, these records do not tell.${made}`;
  } else if (table.max > 0) {
    $("table-about").textContent = `${count(table.count)} of ${count(table.max)} connections, ${Math.floor(table.count * 100 / table.max)} % full, when this page was made.${made}`;
    const meter = $("fill");
    meter.max = table.max;
    meter.high = table.max * 0.75;
    meter.value = table.count;
    meter.hidden = false;
  } else {
    $("table-about").textContent = `${count(table.count)} connections and no limit, when this page was made.${made}`;
  }
  if (data.changes_left) $("table-about").textContent += ` ${plural(data.changes_left, "earlier setting is", "earlier settings are")} left out.`;
  for (const change of data.changes.toReversed()) {
    const row = make("tr");
    row.append(make("td", seconds(change.time), "time"), ...[change.host, change.key, change.before, change.after, change.error].map((text) => make("td", text ?? "–")));
    $("changes").tBodies[0].append(row);
    $("changes").hidden = false;
  }

  // --- tables

  const verdictCell = (row) => make("td", WORDS[row.verdict], `verdict ${row.verdict}`);
  const nameCells = (row) => {
    const who = make("td", whoOf(row));
    if (row.who) who.append(" ", make("span", row.who_is, "quiet"));
    return [verdictCell(row), make("td", requestOf(row)), who, make("td", row.uid ?? "–", "number"), make("td", row.rule ?? "–")];
  };
  const groupRow = (row) => {
    const element = make("tr");
    const [requests, first, last] = [make("td", null, "number"), make("td", null, "time"), make("td", null, "time")];
    row.parts = row.hosts?.map(([host, count, since, time]) => ({ host, count, since, time }));
    row.show = (part) => {
      requests.textContent = count(part.count);
      first.textContent = seconds(part.since);
      last.textContent = seconds(part.time);
    };
    element.append(requests, ...nameCells(row), first, last);
    return element;
  };
  const recordRow = (row) => {
    const element = make("tr");
    const came = make("td");
    const outcome = row.count > 1 || row.since ? `${plural(row.count, "request", "requests")} since ${seconds(row.since)}, ${row.outcome}` : row.outcome;
    if (row.details.length) {
      const details = make("details");
      const list = make("dl", null, "details");
      for (const [what, text] of row.details) {
        list.append(make("dt", what), make("dd", text));
      }
      details.append(make("summary", outcome || "details"), list);
      came.append(details);
    } else {
      came.textContent = outcome;
    }
    element.append(make("td", seconds(row.time), "time"), ...nameCells(row), came);
    return element;
  };
  const list = (id, rows, toElement, about) => {
    for (const row of rows) {
      row.element = toElement(row);
      row.words = [row.time, requestOf(row), whoOf(row), row.uid, ruleOf(row), WORDS[row.verdict], row.outcome, ...(row.details ?? []).map(([, text]) => text)]
        .join("\n").toLowerCase();
    }
    $(id).tBodies[0].append(...rows.map((row) => row.element));
    lists.push({ rows, about });
  };
  list("groups", data.groups, groupRow, (shown, requests) => {
    const left = data.groups_left ? `; ${plural(data.groups_left, "group", "groups")} with ${plural(data.groups_left_requests, "request", "requests")} left out, the smallest` : "";
    $("groups-about").textContent = `${count(shown)} of ${plural(data.groups.length, "group", "groups")}, ${plural(requests, "request", "requests")}${left}`;
  });
  list("rows", data.rows.toReversed(), recordRow, (shown) => {
    const left = data.rows_left ? `; ${count(data.rows_left)} earlier ones left out: --since and --until choose others` : "";
    const counted = chosen.host !== "" && data.counted ? "; what was counted, not written, tells no host" : "";
    $("rows-about").textContent = `${count(shown)} of ${plural(data.rows.length, "record", "records")}, the last one first${left}${counted}`;
  });

  // --- controls

  $("rule").append(...[...new Set([...data.groups, ...data.rows].map(ruleOf))].sort().map((rule) => {
    const option = make("option", rule);
    option.value = rule;
    return option;
  }));
  $("host").append(...data.hosts.map(([name, number]) => {
    const option = make("option", name);
    option.value = number;
    return option;
  }));
  // There is nothing to choose of one.
  if (data.hosts.length < 2) $("hosts").remove();
  for (const select of $("filter").querySelectorAll("select")) {
    select.addEventListener("change", () => { chosen[select.id] = select.value; apply(); });
  }
  $("verdicts").append(...VERDICTS.filter((_, at) => data.counts[at]).map((word) => {
    const button = make("button", WORDS[word]);
    button.type = "button";
    button.dataset.verdict = word;
    button.addEventListener("click", () => {
      if (!chosen.verdicts.delete(word)) chosen.verdicts.add(word);
      apply();
    });
    return button;
  }));
  $("search").addEventListener("input", (event) => { chosen.text = event.target.value.trim().toLowerCase(); apply(); });
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("clear").addEventListener("click", () => { chosen = everything(); $("search").value = ""; apply(); });

  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => document.documentElement.dataset.theme ?? (prefersDark.matches ? "dark" : "light");
  const showTheme = () => $("theme").setAttribute("aria-pressed", String(theme() === "dark"));
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
    showTheme();
  });
  prefersDark.addEventListener("change", showTheme);
  showTheme();
  apply();
})();
