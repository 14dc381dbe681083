"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const $ = id => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const col = {};
  D.columns.forEach((name, i) => { col[name] = i; });
  const get = (row, name) => col[name] === undefined ? null : row[col[name]];
  const word = (name, code) => code === null || code < 0 ? "" : D.words[name][code];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let patch = null, text = "", order = D.orders[0][0], chosen = null, limit = 60;

  function el(tag, content, cls) {
    const node = document.createElement(tag);
    if (content !== undefined && content !== null) node.textContent = content;
    if (cls) node.className = cls;
    return node;
  }
  // numbers as the PDF writes them: the house style, or the plan's locale
  const tag = D.locale || "en";
  const digits = value => Number(value.toPrecision(3));
  const intl = options => { const f = new Intl.NumberFormat(tag, options); return v => f.format(v); };
  const three = {maximumSignificantDigits: 3};
  const unit = D.locale && intl({style: "currency", currency: D.code, notation: "compact", ...three});
  const small = D.locale && intl({style: "currency", currency: D.code, useGrouping: true, ...three});
  const plain = intl({maximumFractionDigits: 0}), figure = intl(three);
  const share = [0, 1].map(n => intl({style: "percent", minimumFractionDigits: n, maximumFractionDigits: n}));
  function name_(row, tag) {  // a name may run from right to left
    const node = el(tag, get(row, "name"));
    node.dir = "auto";
    return node;
  }
  function compact(value) {
    const size = Math.abs(value);
    for (const [scale, suffix] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]])
      if (size >= scale * 0.9995) return trim(size / scale) + suffix;
    return trim(size);
  }
  function trim(size) {
    if (D.locale) return figure(size);
    if (size === 0) return "0";
    const text = digits(size).toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
    return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  }
  function money(value, signed) {
    if (value === null) return "–";
    const size = Math.abs(value);
    let text = D.currency + compact(value);
    if (D.locale) text = size < 1000 || /\d{4}/.test(unit(size)) ? small(size) : unit(size);
    return (value < 0 ? "−" : signed && value > 0 ? "+" : "") + text;
  }
  const count = value => value === null ? "–" : plain(Math.round(value));
  const percent = value => value === null ? "–" : share[value < 0.1 ? 1 : 0](value);
  const odds = value => value === null ? "–" : value >= 0.995 ? ">" + share[0](0.99) : value < 0.005 ? "<" + share[0](0.01) : percent(Math.round(100 * value) / 100);
  const rate = value => value === null ? "–" : D.rate[0] === 100 ? percent(value) : trim(value * D.rate[0]) + " " + D.rate[1];
  const FORMAT = {money, signed: v => money(v, true), count, percent, odds, rate};

  function inPatch(row) {
    return patch === null || get(row, patch[0]) === patch[1];
  }
  function rows() {
    const wanted = text.trim().toLocaleLowerCase();
    const found = D.markets.map((row, i) => i).filter(i => {
      const row = D.markets[i];
      if (!inPatch(row)) return false;
      return !wanted || get(row, "name").toLocaleLowerCase().includes(wanted) || get(row, "id").toLocaleLowerCase().includes(wanted);
    });
    const [name, ascending] = D.orders.find(o => o[0] === order);
    const at = name.replace(/[+-]$/, "");
    if (at === "name") return found.sort((a, b) => get(D.markets[a], "name").localeCompare(get(D.markets[b], "name")));
    const value = i => { const v = get(D.markets[i], at); return v === null ? (ascending ? Infinity : -Infinity) : v; };
    return found.sort((a, b) => (ascending ? value(a) - value(b) : value(b) - value(a)) || a - b);
  }
  function sum(list, name) {
    return list.reduce((total, i) => total + (get(D.markets[i], name) || 0), 0);
  }

  function cards(list) {
    const box = $("cards");
    box.replaceChildren();
    for (const [name, heading, format, note] of D.cards) {
      const div = el("div");
      div.append(el("dt", heading));
      const dd = el("dd");
      if (name === "markets") dd.textContent = count(list.length);
      else if (name === "moves") {
        const up = list.reduce((t, i) => t + Math.max(get(D.markets[i], "change") || 0, 0), 0);
        const down = list.reduce((t, i) => t + Math.min(get(D.markets[i], "change") || 0, 0), 0);
        dd.append(el("span", money(up, true), "up whole"), document.createTextNode(" "), el("span", money(down, true), "down whole"));
      } else dd.textContent = FORMAT[format](sum(list, name));
      if (note) dd.append(el("small", note));
      div.append(dd);
      box.append(div);
    }
  }

  function bar(label, value, most, shown) {
    const row = el("div", null, "row");
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 10");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("width", Math.max(0, 100 * value / (most || 1)));
    rect.setAttribute("height", 10);
    svg.append(rect);
    row.append(el("span", label), svg, el("span", shown));
    return row;
  }
  function progress() {
    const box = $("progress");
    if (!box || !D.progress) return;
    const total = D.progress.totals[patch === null ? "all" : patch[0] + patch[1]];
    box.hidden = !total;
    if (!total) return;
    const [revenue, due, won, wanted, state] = total;
    const part = (name, done, of, show) => {
      if (done === null || !(of > 0)) return [];
      const line = el("p", name + ": ");
      line.append(el("b", percent(done / of), done < of ? "down" : "up"), " of what was due, " + show(done) + " of " + show(of));
      return [line, bar("Done", done, Math.max(done, of), show(done)), bar("Due", of, Math.max(done, of), show(of))];
    };
    box.replaceChildren(el("h2", D.progress.title), ...part("Revenue", revenue, due, money), ...part("New customers", won, wanted, count));
    if (state) box.append(el("p", state < 0 ? "Revenue is below what chance explains." : "Revenue is above what chance explains.", "note"));
  }
  function periods() {
    if (!D.periods) return;
    const key = patch === null ? "all" : patch[0] + patch[1];
    const totals = D.period_totals[key];
    const most = Math.max(...totals.map(t => t[0]));
    $("periods").replaceChildren(...D.periods.map((name, i) =>
      bar(name, totals[i][0], most, money(totals[i][0]) + " · " + count(totals[i][1]) + " new")));
  }

  // three things to do first: win where most is due, move the money, talk where the odds are worst
  function actions(mine) {
    const box = $("actions");
    if (!box) return;
    const taken = new Set();
    const best = (value, floor) => {
      let top = null, most = floor;
      for (const i of mine) {
        const v = value(D.markets[i]);
        if (v !== null && v > most && !taken.has(i)) { top = i; most = v; }
      }
      if (top !== null) taken.add(top);
      return top;
    };
    const due = row => { const m = get(row, "monthly"); return m ? m[0] : get(row, "target_customers"); };
    const cut = row => (get(row, "moves") || []).filter(m => m[2] < m[1])
      .reduce((a, m) => !a || m[1] - m[2] > a[1] - a[2] ? m : a, null);
    const size = row => { const m = cut(row); return m ? m[1] - m[2] : null; };
    // the rise that brings most even where things go badly
    const rise = row => (get(row, "moves") || []).filter(m => m[2] > m[1])
      .reduce((a, m) => !a || (m[4] || 0) > (a[4] || 0) ? m : a, null);
    const sure = row => { const m = rise(row); return m ? m[4] || 1e-9 * (m[2] - m[1]) : null; };
    const total = D.progress && D.progress.totals[patch === null ? "all" : patch[0] + patch[1]];
    const notable = total ? 0.01 * total[1] : Infinity;
    const steps = [
      [row => get(row, "track") < 0 ? get(row, "short") : null, notable, row => [
        "Ask what is missing in " + get(row, "name") + ": " + money(get(row, "short")) + " of revenue",
        percent(get(row, "attained")) + " of what was due by " + D.progress.through + ", below its range"]],
      [due, 0.5, row => ["Win " + count(due(row)) + " new customers in " + get(row, "name"), word("play", get(row, "play"))]],
      [sure, 0, row => { const m = rise(row); return [
        "Put " + money(m[2] - m[1]) + " more into " + D.words.channel[m[0]] + " in " + get(row, "name"), word("reason", m[3])]; }],
      [row => { const p = get(row, "p_attain"); return p === null ? null : 1 - p; }, 0.5, row => [
        "Talk about the target of " + get(row, "name") + ": odds " + odds(get(row, "p_attain")), "What would make it likelier: people, money, time?"]],
      [size, 0, row => { const m = cut(row); return [
        "Take " + money(m[1] - m[2]) + " out of " + D.words.channel[m[0]] + " in " + get(row, "name"), word("reason", m[3])]; }],
      [row => get(row, "opportunity"), 0, row => [
        get(row, "name") + ": " + money(get(row, "opportunity")) + " still to be won", word("play", get(row, "play"))]],
    ];
    const out = [];
    for (const [value, floor, words] of steps) {
      const i = out.length < 3 ? best(value, floor) : null;
      if (i !== null) out.push([i, words(D.markets[i])]);
    }
    box.replaceChildren(...out.map(([i, [what, why]]) => {
      const item = el("li"), button = el("button");
      button.type = "button";
      button.append(el("b", what), el("span", why));
      button.addEventListener("click", () => choose(i, true, button));
      item.append(button);
      return item;
    }));
    box.parentNode.hidden = !out.length;
  }

  function list(found) {
    $("count").textContent = found.length === 1 ? "1 market" : count(found.length) + " markets";
    $("markets").replaceChildren(...found.slice(0, limit).map(i => {
      const row = D.markets[i], item = el("li"), button = el("button");
      button.type = "button";
      button.append(name_(row, "b"));
      const at = order.replace(/[+-]$/, "");
      const [name, heading, format] = D.detail.find(d => d[0] === (at === "short" ? "attained" : at)) || D.figure;
      const value = get(row, name), sign = v => v === null ? "" : v < 0 ? "down" : "up";
      button.append(el("span", FORMAT[format](value), format === "signed" ? sign(value) : ""));
      const play = word("play", get(row, "play"));
      const small = el("small", heading.toLowerCase());
      if (name !== "change" && get(row, "change") !== null)
        small.replaceChildren("money ", el("b", money(get(row, "change"), true), sign(get(row, "change"))));
      button.append(el("em", play || word("region", get(row, "region"))), small);
      button.addEventListener("click", () => choose(i, true, button));
      item.append(button);
      return item;
    }));
    $("more").hidden = found.length <= limit;
  }

  let opener = null;
  function close_() {
    chosen = null;
    $("detail").hidden = true;
    paint();
    if (opener && opener.isConnected) opener.focus();
    opener = null;
  }
  function choose(i, jump, from) {
    chosen = i;
    opener = from || null;
    const box = $("detail"), row = D.markets[i];
    box.replaceChildren();
    box.hidden = false;
    const close = el("button", "×", "close");
    close.type = "button";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", close_);
    const title = name_(row, "h2");
    title.id = "h-detail";
    title.tabIndex = -1;
    box.append(close, title);
    const place = [word("region", get(row, "region")), word("territory", get(row, "territory")), get(row, "id")].filter(Boolean);
    box.append(el("p", place.join(" · "), "note"));
    const play = word("play", get(row, "play"));
    if (play) {
      const p = el("p");
      p.append(el("span", play, "play"));
      const about = D.plays[play];
      if (about) p.append(document.createTextNode(". " + about));
      box.append(p);
    }
    const dl = el("dl", null, "facts");
    for (const [name, heading, format] of D.detail) {
      const value = get(row, name);
      if (value === null) continue;
      const div = el("div");
      div.append(el("dt", heading), el("dd", FORMAT[format](value)));
      dl.append(div);
    }
    const moves = get(row, "moves");
    if (moves && moves.length) {
      box.append(el("h3", "Money, by channel"));
      const ul = el("ul");
      for (const [channel, now, then, reason] of moves) {
        const li = el("li", D.words.channel[channel] + ": " + money(now) + " → " + money(then) + " ");
        li.append(el("b", money(then - now, true), (then < now ? "down" : "up") + " whole"));
        const why = word("reason", reason);
        if (why) li.append(el("div", why, "note"));
        ul.append(li);
      }
      box.append(ul);
    }
    const since = get(row, "since");
    if (since && D.since) {
      box.append(el("h3", D.since));
      const p = el("p", "Money ");
      p.append(el("b", money(since[0], true), (since[0] < 0 ? "down" : "up") + " whole"), " against the plan before. " + word("cause", since[1]));
      box.append(p);
    }
    const monthly = get(row, "monthly");
    if (monthly) {
      box.append(el("h3", "New customers to win"));
      const most = Math.max(...monthly);
      monthly.forEach((value, k) => box.append(bar(D.periods[k], value, most, count(value))));
    }
    box.append(el("h3", "In figures"), dl);
    paint();
    if (jump) { box.scrollIntoView({block: "nearest"}); title.focus({preventScroll: true}); }
  }

  const shapes = new Map();
  const fine = D.map && D.map.paths.length > 1500;  // smaller than a hairline: no borders
  function colour(t) {
    const stops = dark.matches ? D.ramp.dark : D.ramp.light;
    const x = Math.min(Math.max(t, 0), 1) * (stops.length - 1), k = Math.min(Math.floor(x), stops.length - 2), f = x - k;
    const mix = c => Math.round(stops[k][c] + f * (stops[k + 1][c] - stops[k][c]));
    return "rgb(" + mix(0) + "," + mix(1) + "," + mix(2) + ")";
  }
  function shade(row) {
    const value = get(row, D.map.column);
    if (value === null) return null;
    return D.map.diverging ? 0.5 + 0.5 * value / D.map.size : value / D.map.size;
  }
  function drawMap() {
    if (!D.map) return;
    D.map.paths.forEach((d, i) => {
      if (!d) return;
      let node;
      if (typeof d === "string") {
        node = document.createElementNS(SVG, "path");
        node.setAttribute("d", d);
        node.setAttribute("fill-rule", "evenodd");
      } else {
        node = document.createElementNS(SVG, "circle");
        node.setAttribute("cx", d[0]); node.setAttribute("cy", d[1]); node.setAttribute("r", D.map.radius);
      }
      node.dataset.i = i;
      const title = document.createElementNS(SVG, "title");
      title.textContent = get(D.markets[i], "name");
      node.append(title);
      shapes.set(i, node);
      $("map").append(node);
    });
    if (fine) $("map").classList.add("fine");
    $("map").addEventListener("click", event => {
      const node = event.target.closest("[data-i]");
      if (node) return choose(Number(node.dataset.i), true);
      let near = null, least = 24;  // a thumb is wide, and some markets are small
      for (const [i, shape] of shapes) {
        const r = shape.getBoundingClientRect();
        const away = Math.hypot(event.clientX - Math.min(Math.max(event.clientX, r.left), r.right),
          event.clientY - Math.min(Math.max(event.clientY, r.top), r.bottom));
        if (away < least) { least = away; near = i; }
      }
      if (near !== null) choose(near, true);
    });
  }
  function paint() {
    if (!D.map) return;
    for (const [i, node] of shapes) {
      const row = D.markets[i], t = shade(row);
      const fill = t === null ? "var(--land)" : colour(t);
      node.setAttribute("fill", fill);
      if (fine) node.style.stroke = i === chosen ? "" : fill;
      node.setAttribute("class", (inPatch(row) ? "" : "off") + (i === chosen ? " on" : ""));
    }
    if (chosen !== null && shapes.has(chosen)) $("map").append(shapes.get(chosen));
    const steps = [0, 0.25, 0.5, 0.75, 1].map(colour);
    $("ramp").style.background = "linear-gradient(90deg," + steps.join(",") + ")";
  }

  function show() {
    limit = 60;
    const mine = D.markets.map((row, i) => i).filter(i => inPatch(D.markets[i]));
    $("h-patch").textContent = patch === null ? "All markets" : word(patch[0], patch[1]);
    cards(mine);
    actions(mine);
    progress();
    periods();
    list(rows());
    paint();
  }

  addEventListener("keydown", event => { if (event.key === "Escape" && chosen !== null) close_(); });
  const KEY = "micromarket patch " + document.title;
  const picker = $("patch");
  if (picker) {
    const all = el("option", "All markets");
    all.value = "";
    picker.append(all);
    for (const [name, heading] of D.groups) {
      const group = document.createElement("optgroup");
      group.label = heading;
      D.words[name].forEach((w, k) => { const o = el("option", w); o.value = name + ":" + k; group.append(o); });
      picker.append(group);
    }
    picker.addEventListener("change", () => {
      const [name, code] = picker.value.split(":");
      patch = picker.value ? [name, Number(code)] : null;
      try { localStorage.setItem(KEY, patch === null ? "" : name + ":" + D.words[name][patch[1]]); } catch { /* not here */ }
      show();
    });
    try {  // the patch that was picked last, also on next month's page
      const [name, ...rest] = (localStorage.getItem(KEY) || "").split(":");
      const code = (D.words[name] || []).indexOf(rest.join(":"));
      if (code >= 0 && D.groups.some(g => g[0] === name)) { patch = [name, code]; picker.value = name + ":" + code; }
    } catch { /* private windows keep nothing */ }
  }
  for (const [name, , heading] of D.orders) { const o = el("option", heading); o.value = name; $("sort").append(o); }
  $("sort").addEventListener("change", event => { order = event.target.value; list(rows()); });
  $("find").addEventListener("input", event => { text = event.target.value; limit = 60; list(rows()); });
  $("more").addEventListener("click", () => { limit += 200; list(rows()); });
  dark.addEventListener("change", paint);
  function linked() {  // dashboard.html#id opens that market: a link that can be sent
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { return; }
    const i = id ? D.markets.findIndex(row => get(row, "id") === id) : -1;
    if (i >= 0) choose(i, true);
  }
  addEventListener("hashchange", linked);
  drawMap();
  show();
  linked();
})();
