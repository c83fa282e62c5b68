'use strict';
// Draws what happened over time. The run is in columns in the element `data`; nothing in it is ever
// taken for markup: text becomes text nodes or is painted.
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  root.classList.add('script');

  const data = JSON.parse(byId('data').textContent);
  const { span, strings, calls: columns, faults } = data;
  const count = columns.start.length;
  const DONE = 0, REFUSED = 1, UNDONE = 2, UNKNOWN = 3;
  const ENDINGS = ['done', 'refused', 'not done', 'unknown'];
  const CLASSES = ['done', 'refused', 'undone', 'unknown'];

  // ---- the run

  const start = new Float64Array(count), end = new Float64Array(count), open = new Uint8Array(count);
  for (let i = 0, at = 0; i < count; i++) {
    at += columns.start[i];
    start[i] = at;
    const took = columns.took[i];
    end[i] = took < 0 ? span : at + took;
    open[i] = took < 0 || columns.outcome[i] === UNKNOWN ? 1 : 0;
  }
  const cited = new Uint8Array(count);
  for (const i of data.cited) cited[i] = 1;

  // A lane for each client that called, with its calls in order of time.
  const lanes = [];
  {
    const of = new Map();
    for (let i = 0; i < count; i++) {
      const client = columns.client[i];
      if (!of.has(client)) of.set(client, []);
      of.get(client).push(i);
    }
    for (const client of [...of.keys()].sort((a, b) => a - b)) {
      const list = of.get(client).sort((a, b) => start[a] - start[b] || a - b);
      lanes.push({ name: data.clients[client] ?? `client ${client}`, calls: list });
    }
  }
  const laneOf = new Map();
  lanes.forEach((lane, at) => lane.calls.forEach((i) => laneOf.set(i, at)));

  const untilOf = (fault) => fault.until ?? span;
  const hits = (fault, region, node) =>
    (fault.region === null || fault.region === region)
    && (node === undefined || fault.region === null || !fault.nodes.length || fault.nodes.includes(node));

  // How many faults of a list are on, as steps.
  function steps(list) {
    const edges = [];
    for (const fault of list) edges.push([fault.from, 1], [untilOf(fault), -1]);
    edges.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
    const found = [];
    let on = 0;
    edges.forEach(([at, by], nth) => {
      on += by;
      const next = edges[nth + 1]?.[0];
      if (on > 0 && next > at) found.push([at, next, on]);
    });
    return found;
  }
  const allSteps = steps(faults);

  // Each fault in the first row that is free.
  const faultRows = [];
  for (const fault of [...faults].sort((a, b) => a.from - b.from)) {
    const row = faultRows.find((row) => untilOf(row[row.length - 1]) <= fault.from);
    if (row) row.push(fault); else faultRows.push([fault]);
  }

  // What each node took for its leader, as stretches.
  const nodes = new Map();
  const nodeKey = (region, node) => `${region}/${node}`;
  const nodeRow = (region, node) => {
    const key = nodeKey(region, node);
    if (!nodes.has(key)) nodes.set(key, { region, node, name: key, seen: [] });
    return nodes.get(key);
  };
  for (const [region, members] of data.regions) members.forEach((node) => nodeRow(region, node));
  for (const [at, region, node, term, leader] of data.leaders) {
    const { seen } = nodeRow(region, node);
    if (seen.length) seen[seen.length - 1].until = at;
    seen.push({ from: at, until: span, term, leader });
  }
  // Regions in the run's own order.
  const regions = [...new Set([...nodes.values()].map((row) => row.region))];
  const inOrder = (a, b) => regions.indexOf(a) - regions.indexOf(b) || (a < b ? -1 : a > b ? 1 : 0);
  const nodeRows = [...nodes.values()].sort((a, b) => inOrder(a.region, b.region) || a.node - b.node);
  for (const row of nodeRows) row.faults = steps(faults.filter((fault) => hits(fault, row.region, row.node)));
  // Ids of nodes of one Region get colours in their order.
  const colourOf = new Map();
  for (const row of nodeRows) {
    const before = nodeRows.filter((other) => other.region === row.region && other.node < row.node).length;
    colourOf.set(row.name, before % 6);
  }

  // The members of each family, as stretches.
  const families = new Map();
  for (const [at, key, region, state, primary] of data.members) {
    if (!families.has(key)) families.set(key, new Map());
    const family = families.get(key);
    if (!family.has(region)) family.set(region, []);
    const seen = family.get(region);
    if (seen.length) seen[seen.length - 1].until = at;
    seen.push({ from: at, until: span, state, primary });
  }
  const FAMILIES_FIRST = 8;
  let familiesShown = Math.min(families.size, FAMILIES_FIRST);

  // ---- words

  const digits = (value) => value.toLocaleString('en-US');
  const trim = (value) => (value < 0.9995 ? value.toFixed(3) : value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : value.toFixed(0));
  const length = (us) => (us < 999500 ? `${trim(us / 1e3)} ms` : `${trim(us / 1e6)} s`);
  const moment = (us) => `${(us / 1e6).toFixed(3)} s`;
  const placeOf = (i) => strings[columns.region[i]] + (columns.node[i] ? `/${columns.node[i]}` : '');
  const operationOf = (i) => strings[columns.operation[i]];
  const tookOf = (i) => (columns.took[i] < 0 ? 'never ended' : `took ${length(columns.took[i])}`);
  const hitOf = (fault) => {
    if (fault.region === null) return 'several Regions';
    return fault.nodes.length ? fault.nodes.map((node) => nodeKey(fault.region, node)).join(', ') : fault.region;
  };
  const effectsOf = (fault) => {
    if (fault.effects === null) return '';
    return fault.effects === 0 ? '\nwithout effect' : `\ntook effect ${digits(fault.effects)} ${fault.effects === 1 ? 'time' : 'times'}`;
  };
  const shortKey = (key) => (key.length > 20 ? `${key.slice(0, 10)}…${key.slice(-6)}` : key);

  // ---- colours and view

  let colour = {};
  let family = '';
  function readColours() {
    const style = getComputedStyle(root);
    for (const name of ['paper', 'raised', 'ink', 'soft', 'line', 'done', 'refused', 'undone', 'unknown', 'good', 'bad', 'fault']) {
      colour[name] = style.getPropertyValue(`--${name}`).trim();
    }
    colour.leaders = [1, 2, 3, 4, 5, 6].map((nth) => style.getPropertyValue(`--leader-${nth}`).trim());
    colour.endings = [colour.done, colour.refused, colour.undone, colour.unknown];
    family = style.getPropertyValue('--sans');
  }

  const SHORTEST = Math.min(200, span);
  const view = { from: 0, to: span };
  let selected = -1;

  function show(from, to) {
    const width = Math.min(span, Math.max(SHORTEST, to - from));
    const middle = (from + to) / 2;
    view.from = Math.min(Math.max(0, middle - width / 2), span - width);
    view.to = view.from + width;
    later();
  }
  const pan = (by) => show(view.from + by * (view.to - view.from), view.to + by * (view.to - view.from));
  function zoom(by, at = (view.from + view.to) / 2) {
    const width = Math.min(span, Math.max(SHORTEST, (view.to - view.from) * by));
    const share = (at - view.from) / (view.to - view.from);
    show(at - width * share, at + width * (1 - share));
  }

  // ---- painting

  const sheets = [];
  let waiting = 0;
  function later() {
    if (!waiting) waiting = requestAnimationFrame(draw);
  }
  function draw() {
    cancelAnimationFrame(waiting);
    waiting = 0;
    for (const sheet of sheets) paint(sheet);
    const whole = view.to - view.from >= span;
    byId('range').textContent = whole ? `0 to ${moment(span)}` : `${moment(view.from)} to ${moment(view.to)} (${length(view.to - view.from)})`;
    byId('all').disabled = byId('out').disabled = whole;
    byId('back').disabled = view.from <= 0;
    byId('forth').disabled = view.to >= span;
    byId('in').disabled = view.to - view.from <= SHORTEST;
  }

  function paint(sheet) {
    const { canvas } = sheet;
    const width = canvas.clientWidth;
    if (!width) return;
    const height = sheet.height(width);
    const sharp = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * sharp), Math.round(height * sharp)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      canvas.style.height = `${height}px`;
    }
    const g = canvas.getContext('2d');
    g.setTransform(sharp, 0, 0, sharp, 0, 0);
    g.clearRect(0, 0, width, height);
    g.font = `12px ${family}`;
    g.textBaseline = 'middle';
    g.lineWidth = 1;
    const area = areaOf(width);
    const perUs = (area.right - area.left) / (view.to - view.from);
    const x = (us) => area.left + (us - view.from) * perUs;
    sheet.draw(g, { width, height, x, perUs, ...area });
  }

  const areaOf = (width) => ({ left: width < 600 ? 62 : 128, right: width - (width < 600 ? 6 : 12) });

  function within(g, at, body) {
    g.save();
    g.beginPath();
    g.rect(at.left, 0, at.right - at.left, at.height);
    g.clip();
    body();
    g.restore();
  }

  // Texts are measured once: that is what a drawing of many labels would spend its time on.
  const fitted = new Map();
  function fit(g, text, room) {
    const key = `${g.font}\n${Math.floor(room)}\n${text}`;
    let short = fitted.get(key);
    if (short === undefined) {
      short = text;
      if (g.measureText(text).width > room) {
        let low = 0, high = Math.min(text.length, 200);
        while (low < high) {
          const middle = (low + high + 1) >> 1;
          if (g.measureText(`${text.slice(0, middle)}…`).width <= room) low = middle; else high = middle - 1;
        }
        short = low ? `${text.slice(0, low)}…` : '';
      }
      if (fitted.size > 20000) fitted.clear();
      fitted.set(key, short);
    }
    return short;
  }
  function label(g, at, text, y, strong) {
    g.fillStyle = strong ? colour.ink : colour.soft;
    g.textAlign = 'left';
    g.fillText(fit(g, text, at.left - 10), 0, y);
  }

  // Where there is little room, us-east-1 is use1 and ap-southeast-2 apse2.
  function regionIn(at, region) {
    if (at.left > 100) return region;
    const [, land, ways, nth] = /^([a-z]{2}(?:-[a-z]+)?)-((?:north|south|east|west|central)+)-(\d+)$/.exec(region) ?? [];
    return land ? land + ways.replace(/(.)[a-z]*?(?=north|south|east|west|central|$)/g, '$1') + nth : region;
  }

  // Round steps so that labels have room.
  function stepOf(least) {
    const power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].find((factor) => factor * power >= least) * power;
  }
  function ticks(at) {
    const step = Math.max(1, stepOf(86 / at.perUs));
    const found = [];
    for (let us = Math.ceil(view.from / step) * step; us <= view.to; us += step) found.push(us);
    return { step, found };
  }
  const tickText = (us, step) => `${(us / 1e6).toFixed(Math.max(0, 6 - Math.floor(Math.log10(step))))} s`;

  function ground(g, at, on) {
    g.fillStyle = colour.line;
    for (const us of ticks(at).found) g.fillRect(Math.round(at.x(us)), 0, 1, at.height);
    if (on) shade(g, at, on, 0, at.height);
  }
  function shade(g, at, on, top, height) {
    g.fillStyle = colour.fault;
    for (const [from, to, number] of on) {
      if (to < view.from || from > view.to) continue;
      g.globalAlpha = 0.07 + 0.05 * Math.min(number, 4);
      g.fillRect(at.x(from), top, Math.max(0.5, (to - from) * at.perUs), height);
    }
    g.globalAlpha = 1;
  }
  function selectedLine(g, at) {
    if (selected < 0) return;
    g.fillStyle = colour.ink;
    g.globalAlpha = 0.5;
    g.fillRect(Math.round(at.x(start[selected])), 0, 1, at.height);
    g.globalAlpha = 1;
  }

  const stripes = new Map();
  function hatch(g, ink) {
    if (!stripes.has(ink)) {
      const tile = document.createElement('canvas');
      tile.width = tile.height = 6;
      const t = tile.getContext('2d');
      t.strokeStyle = ink;
      t.lineWidth = 1.5;
      t.beginPath();
      for (const by of [-6, 0, 6]) { t.moveTo(by - 1, 7); t.lineTo(by + 7, -1); }
      t.stroke();
      stripes.set(ink, g.createPattern(tile, 'repeat'));
    }
    return stripes.get(ink);
  }

  // ---- the overview with the view's brush

  const overview = {
    canvas: byId('overview'),
    height: () => 60,
    draw(g, at) {
      const tall = 38, whole = at.right - at.left;
      const x = (us) => at.left + (us / span) * whole;
      g.fillStyle = colour.raised;
      g.fillRect(at.left, 0, whole, tall);
      g.fillStyle = colour.fault;
      for (const [from, to, number] of allSteps) {
        g.globalAlpha = 0.07 + 0.05 * Math.min(number, 4);
        g.fillRect(x(from), 0, Math.max(0.5, x(to) - x(from)), tall);
      }
      g.globalAlpha = 1;
      const buckets = new Uint32Array(Math.max(1, Math.ceil(whole / 3)));
      for (let i = 0; i < count; i++) {
        buckets[Math.max(0, Math.min(buckets.length - 1, Math.floor((start[i] / span) * buckets.length)))]++;
      }
      const most = Math.max(1, ...buckets);
      g.fillStyle = colour.soft;
      buckets.forEach((number, nth) => {
        const tallness = (number / most) * (tall - 6);
        g.fillRect(at.left + (nth * whole) / buckets.length, tall - tallness, whole / buckets.length - 0.6, tallness);
      });
      g.fillStyle = colour.bad;
      for (const i of data.cited) mark(g, x(start[i]), 1, 3.5);
      const from = x(view.from), to = Math.max(from + 2, x(view.to));
      if (view.to - view.from < span) {
        g.fillStyle = colour.paper;
        g.globalAlpha = 0.72;
        g.fillRect(at.left, 0, from - at.left, tall);
        g.fillRect(to, 0, at.right - to, tall);
        g.globalAlpha = 1;
      }
      g.strokeStyle = colour.ink;
      g.strokeRect(from + 0.5, 0.5, Math.max(1, to - from - 1), tall - 1);
      label(g, at, at.left > 100 ? 'The whole run' : 'All', tall / 2);
      // The view's own axis, below: what follows is to this scale.
      const { found, step } = ticks(at);
      g.fillStyle = colour.soft;
      for (const us of found) {
        const tick = at.x(us);
        const text = tickText(us, step);
        const half = g.measureText(text).width / 2;
        g.textAlign = 'center';
        g.fillText(text, Math.min(Math.max(tick, at.left + half), at.right - half), 51);
      }
    },
    hit() { return null; },
  };

  function mark(g, x, y, size) {
    g.beginPath();
    g.moveTo(x - size, y);
    g.lineTo(x + size, y);
    g.lineTo(x, y + size * 1.8);
    g.fill();
  }

  // ---- faults

  const faultSheet = {
    canvas: document.querySelector('#panel-faults canvas'),
    height: () => faultRows.length * 18 + 4,
    draw(g, at) {
      ground(g, at);
      within(g, at, () => {
        faultRows.forEach((row, nth) => {
          const top = nth * 18 + 2;
          for (const fault of row) {
            if (untilOf(fault) < view.from || fault.from > view.to) continue;
            const left = Math.max(at.left - 2, at.x(fault.from));
            const right = Math.min(at.right + 2, at.x(untilOf(fault)));
            const wide = Math.max(2, right - left);
            g.fillStyle = hatch(g, colour.fault);
            g.globalAlpha = 0.5;
            g.fillRect(left, top, wide, 15);
            g.globalAlpha = 1;
            g.strokeStyle = colour.fault;
            g.strokeRect(left + 0.5, top + 0.5, wide - 1, 14);
            const text = fit(g, fault.kind, wide - 8);
            if (text === fault.kind) {
              g.fillStyle = colour.paper;
              g.globalAlpha = 0.86;
              g.fillRect(left + 2, top + 2, g.measureText(text).width + 6, 11);
              g.globalAlpha = 1;
              g.fillStyle = colour.ink;
              g.textAlign = 'left';
              g.fillText(text, left + 5, top + 8);
            }
          }
        });
        selectedLine(g, at);
      });
    },
    hit(at, x, y) {
      const row = faultRows[Math.floor((y - 2) / 18)] ?? [];
      const fault = row.find((fault) => x >= at.x(fault.from) - 3 && x <= at.x(untilOf(fault)) + 3);
      if (!fault) return null;
      const until = fault.until === null ? 'the end' : moment(fault.until);
      return `${fault.kind}: ${hitOf(fault)}\n${fault.what}\n${moment(fault.from)} to ${until}${effectsOf(fault)}`;
    },
  };

  // ---- calls

  const laneTall = () => Math.min(24, Math.max(5, Math.floor(520 / Math.max(1, lanes.length))));
  const TOP = 8;
  const callSheet = {
    canvas: byId('calls'),
    height: () => lanes.length * laneTall() + TOP + 2,
    draw(g, at) {
      const tall = laneTall(), bar = Math.max(3, tall - Math.min(8, tall * 0.35));
      ground(g, at, allSteps);
      g.fillStyle = colour.line;
      lanes.forEach((lane, nth) => {
        const middle = TOP + nth * tall + tall / 2;
        if (tall >= 12 || nth % Math.ceil(12 / tall) === 0) label(g, at, lane.name, middle, selected >= 0 && laneOf.get(selected) === nth);
        g.fillStyle = colour.line;
        g.fillRect(at.left, Math.round(middle), at.right - at.left, 1);
      });
      within(g, at, () => {
        // What is rare is painted last, so that it is seen when bars are narrower than a pixel.
        for (const ending of [DONE, UNDONE, REFUSED, UNKNOWN]) {
          lanes.forEach((lane, nth) => {
            const top = TOP + nth * tall + (tall - bar) / 2;
            for (const i of lane.calls) {
              if (columns.outcome[i] !== ending) continue;
              if (start[i] > view.to) break;
              if (!open[i] && end[i] < view.from) continue;
              drawCall(g, at, i, top, bar);
            }
          });
        }
        g.fillStyle = colour.bad;
        for (const i of data.cited) {
          if (start[i] <= view.to && end[i] >= view.from) {
            const nth = laneOf.get(i);
            mark(g, Math.max(at.left + 4, (at.x(start[i]) + at.x(Math.min(end[i], view.to))) / 2), TOP + nth * tall + (tall - bar) / 2 - 6, 4.5);
          }
        }
        selectedLine(g, at);
        if (selected >= 0) {
          const top = TOP + laneOf.get(selected) * tall + (tall - bar) / 2;
          const left = at.x(start[selected]);
          g.strokeStyle = colour.ink;
          g.lineWidth = 2;
          g.strokeRect(left - 2, top - 2, Math.max(4, at.x(end[selected]) - left + 4), bar + 4);
        }
      });
    },
    hit(at, x, y) {
      const i = this.find(at, x, y);
      if (i < 0) return null;
      const lane = lanes[laneOf.get(i)];
      return `${operationOf(i)}, ${ENDINGS[columns.outcome[i]]}\n${lane.name} at ${placeOf(i)}\n${moment(start[i])}, ${tookOf(i)}`;
    },
    find(at, x, y) {
      const lane = lanes[Math.floor((y - TOP) / laneTall())];
      if (!lane) return -1;
      let best = -1, near = 9;
      for (const i of lane.calls) {
        if (start[i] > view.to) break;
        const left = at.x(start[i]), right = at.x(end[i]);
        const away = x < left ? left - x : x > right ? x - right : 0;
        if (away <= near && (away < near || columns.outcome[i] !== DONE || best < 0)) [best, near] = [i, away];
      }
      return best;
    },
    pick(at, x, y) {
      select(this.find(at, x, y));
    },
  };

  function drawCall(g, at, i, top, bar) {
    const ending = columns.outcome[i];
    const left = Math.max(at.left - 6, at.x(start[i])), right = Math.min(at.right + 6, at.x(end[i]));
    const wide = Math.max(1.4, right - left);
    const ink = colour.endings[ending];
    g.fillStyle = ink;
    if (ending === DONE) {
      g.fillRect(left, top, wide, bar);
    } else if (ending === REFUSED) {
      g.fillRect(left, top + bar / 2, wide, bar / 2);
      if (wide > 5) { g.strokeStyle = ink; g.strokeRect(left + 0.5, top + 0.5, wide - 1, bar - 1); }
    } else if (ending === UNDONE) {
      if (wide > 4) { g.strokeStyle = ink; g.strokeRect(left + 0.5, top + bar * 0.25, wide - 1, bar / 2); } else g.fillRect(left, top + bar * 0.25, wide, bar / 2);
    }
    if (open[i]) {
      if (ending === UNKNOWN) g.fillRect(left, top, wide, bar);
      // It may be done at any time to come. A short tail says so; a long one would cover later calls.
      const tail = Math.min(ending === UNKNOWN ? 18 : wide, at.right - left);
      g.strokeStyle = ink;
      g.setLineDash([2, 2]);
      g.strokeRect((ending === UNKNOWN ? left + wide : left) + 0.5, top + 0.5, tail, bar - 1);
      g.setLineDash([]);
    }
    if (wide > 42 && bar >= 14) {
      g.fillStyle = ending === DONE || ending === UNKNOWN ? colour.paper : colour.ink;
      g.textAlign = 'left';
      const text = fit(g, operationOf(i), wide - 10);
      if (text.length > 6 || text === operationOf(i)) g.fillText(text, left + 5, top + bar / 2 + 0.5);
    }
  }

  // ---- throughput

  // Of the view, in buckets that are the same wherever the view is.
  function bucketsOf(at, pixels) {
    const wide = stepOf(pixels / at.perUs);
    const first = Math.floor(view.from / wide), last = Math.floor(view.to / wide);
    return { wide, first, number: last - first + 1 };
  }
  const rateSheet = {
    canvas: document.querySelector('#panel-rate canvas'),
    height: () => 130,
    stacks(at) {
      const { wide, first, number } = bucketsOf(at, 5);
      const stacks = Array.from({ length: number }, () => [0, 0, 0, 0]);
      for (let i = 0; i < count; i++) {
        if (columns.took[i] < 0) continue;
        const nth = Math.floor(end[i] / wide) - first;
        if (nth >= 0 && nth < number) stacks[nth][columns.outcome[i]]++;
      }
      return { wide, first, stacks };
    },
    draw(g, at) {
      ground(g, at, allSteps);
      const { wide, first, stacks } = this.stacks(at);
      const most = Math.max(1, ...stacks.map((stack) => stack[0] + stack[1] + stack[2] + stack[3]));
      const perCall = (at.height - 12) / most;
      within(g, at, () => {
        stacks.forEach((stack, nth) => {
          const left = at.x((first + nth) * wide), right = at.x((first + nth + 1) * wide);
          let y = at.height - 1;
          for (const ending of [DONE, REFUSED, UNDONE, UNKNOWN]) {
            const tall = stack[ending] * perCall;
            if (!tall) continue;
            y -= tall;
            g.fillStyle = ending === UNDONE ? hatch(g, colour.undone) : colour.endings[ending];
            g.fillRect(left, y, Math.max(1, right - left - 1), tall);
          }
        });
        selectedLine(g, at);
      });
      const rate = most / (wide / 1e6);
      label(g, at, `${digits(rate < 10 ? Number(rate.toFixed(1)) : Math.round(rate))}/s`, 12);
      label(g, at, '0', at.height - 7);
      g.fillStyle = colour.soft;
      g.globalAlpha = 0.5;
      g.fillRect(at.left, at.height - 1, at.right - at.left, 1);
      g.globalAlpha = 1;
    },
    hit(at, x) {
      const { wide, first, stacks } = this.stacks(at);
      const nth = Math.floor((view.from + (x - at.left) / at.perUs) / wide) - first;
      const stack = stacks[nth];
      if (!stack || x < at.left) return null;
      const parts = stack.map((number, ending) => [number, ENDINGS[ending]]).filter(([number]) => number);
      const per = (number) => digits(Number((number / (wide / 1e6)).toFixed(1)));
      return `${moment((first + nth) * wide)}, for ${length(wide)}\n${parts.map(([number, word]) => `${per(number)}/s ${word}`).join('\n') || 'no call ended'}`;
    },
  };

  // ---- latency

  // From the fastest to the slowest. What was not done at once, in no time, is put at the lower edge.
  let fastest = 1e6, slowest = 10;
  for (let i = 0; i < count; i++) {
    const took = columns.took[i];
    if (took >= 10) fastest = Math.min(fastest, took);
    slowest = Math.max(slowest, took);
  }
  const low = Math.floor(Math.log10(fastest)), high = Math.max(low + 1, Math.ceil(Math.log10(slowest) * 2) / 2);
  const latencySheet = {
    canvas: document.querySelector('#panel-latency canvas'),
    height: () => 190,
    y: (at, us) => at.height - 8 - ((Math.log10(Math.max(10 ** low, us)) - low) / (high - low)) * (at.height - 16),
    draw(g, at) {
      ground(g, at, allSteps);
      for (let power = low; power <= high; power++) {
        const y = this.y(at, 10 ** power);
        g.fillStyle = colour.line;
        g.fillRect(at.left, Math.round(y), at.right - at.left, 1);
        label(g, at, power < 6 ? `${10 ** power / 1e3} ms` : `${10 ** power / 1e6} s`, y);
      }
      within(g, at, () => {
        const size = count > 3000 && at.perUs * span < 4 * at.width ? 2 : 3;
        for (const ending of [DONE, UNDONE, REFUSED, UNKNOWN]) {
          g.fillStyle = g.strokeStyle = colour.endings[ending];
          g.globalAlpha = ending === DONE ? (size === 2 ? 0.45 : 0.65) : 0.9;
          for (let i = 0; i < count; i++) {
            if (columns.outcome[i] !== ending || columns.took[i] < 0 || end[i] < view.from || end[i] > view.to) continue;
            const x = at.x(end[i]), y = this.y(at, columns.took[i]);
            if (ending === DONE) {
              g.fillRect(x - size / 2, y - size / 2, size, size);
            } else if (ending === REFUSED) {
              g.fillRect(x - 2.5, y - 2.5, 5, 5);
            } else {
              g.beginPath();
              if (ending === UNDONE) {
                g.moveTo(x - 2.5, y - 2.5); g.lineTo(x + 2.5, y + 2.5);
                g.moveTo(x + 2.5, y - 2.5); g.lineTo(x - 2.5, y + 2.5);
                g.stroke();
              } else {
                g.moveTo(x, y - 4); g.lineTo(x + 4, y + 3); g.lineTo(x - 4, y + 3);
                g.fill();
              }
            }
          }
        }
        g.globalAlpha = 1;
        this.lines(g, at);
        selectedLine(g, at);
      });
    },
    percentiles(at) {
      const { wide, first, number } = bucketsOf(at, 14);
      const of = Array.from({ length: number }, () => []);
      for (let i = 0; i < count; i++) {
        if (columns.outcome[i] !== DONE || columns.took[i] < 0) continue;
        const nth = Math.floor(end[i] / wide) - first;
        if (nth >= 0 && nth < number) of[nth].push(columns.took[i]);
      }
      const rank = (list, share) => list[Math.ceil(list.length * share) - 1];
      return of.map((list, nth) => {
        list.sort((a, b) => a - b);
        return { from: (first + nth) * wide, wide, number: list.length, p50: rank(list, 0.5), p99: rank(list, 0.99) };
      });
    },
    lines(g, at) {
      const all = this.percentiles(at);
      g.strokeStyle = colour.ink;
      g.lineJoin = 'round';
      for (const [which, dash] of [['p50', []], ['p99', [5, 3]]]) {
        g.setLineDash(dash);
        g.lineWidth = 1.5;
        g.beginPath();
        let before = false;
        for (const bucket of all) {
          const value = bucket[which];
          if (value === undefined) { before = false; continue; }
          const x = at.x(bucket.from + bucket.wide / 2), y = this.y(at, value);
          if (before) g.lineTo(x, y); else { g.moveTo(x - 2, y); g.lineTo(x, y); }
          before = true;
        }
        g.stroke();
      }
      g.setLineDash([]);
      g.lineWidth = 1;
    },
    hit(at, x) {
      const us = view.from + (x - at.left) / at.perUs;
      const bucket = this.percentiles(at).find(({ from, wide }) => us >= from && us < from + wide);
      if (!bucket || x < at.left) return null;
      const when = `${moment(bucket.from)}, for ${length(bucket.wide)}\n`;
      if (!bucket.number) return `${when}no call was done`;
      return `${when}${digits(bucket.number)} done, p50 ${length(bucket.p50)}, p99 ${length(bucket.p99)}`;
    },
  };

  // ---- leaders and families: rows of stretches

  // The stretch at a place, of those that follow each other.
  const stretchAt = (at, x, list) => {
    const us = view.from + (x - at.left) / at.perUs;
    return x < at.left ? undefined : list.find((seen) => us >= seen.from && us < Math.max(seen.until, seen.from + 3 / at.perUs));
  };
  const NODE_TALL = 20;
  const nodeTop = (nth) => {
    let gaps = 0;
    for (let i = 1; i <= nth; i++) if (nodeRows[i].region !== nodeRows[i - 1].region) gaps++;
    return nth * NODE_TALL + gaps * 8 + 2;
  };
  const leaderSheet = {
    canvas: document.querySelector('#panel-leaders canvas'),
    height: () => (nodeRows.length ? nodeTop(nodeRows.length - 1) : 0) + NODE_TALL + 2,
    draw(g, at) {
      ground(g, at);
      nodeRows.forEach((row, nth) => {
        const top = nodeTop(nth), middle = top + NODE_TALL / 2;
        label(g, at, regionIn(at, row.region) + `/${row.node}`, middle);
        within(g, at, () => {
          shade(g, at, row.faults, top + 1, NODE_TALL - 2);
          for (const { from, until, term, leader } of row.seen) {
            if (until < view.from || from > view.to) continue;
            const left = Math.max(at.left - 4, at.x(from)), right = Math.min(at.right + 4, at.x(until));
            const wide = Math.max(1, right - left);
            if (leader === null) {
              g.fillStyle = colour.soft;
              for (let x = Math.max(left, at.left); x < right; x += 5) g.fillRect(x, middle - 0.75, 1.5, 1.5);
              continue;
            }
            const ink = colour.leaders[colourOf.get(nodeKey(row.region, leader)) ?? 0];
            g.fillStyle = ink;
            if (leader === row.node) {
              g.fillRect(left, top + 3, wide, NODE_TALL - 6);
              if (wide > 18) {
                g.fillStyle = colour.paper;
                g.textAlign = 'left';
                const text = wide > 56 ? `term ${term}` : `${term}`;
                if (g.measureText(text).width < wide - 6) g.fillText(text, Math.max(left, at.left) + 4, middle + 0.5);
              }
            } else {
              g.fillRect(left, middle - 2, wide, 4);
            }
            // Where terms change, so that a new term of the same leader is seen.
            g.fillStyle = colour.paper;
            g.fillRect(left - 0.5, top + 3, 1, NODE_TALL - 6);
          }
          selectedLine(g, at);
        });
      });
    },
    hit(at, x, y) {
      const row = nodeRows.find((_, nth) => y >= nodeTop(nth) && y < nodeTop(nth) + NODE_TALL);
      const seen = row && stretchAt(at, x, row.seen);
      if (!seen) return null;
      const what = seen.leader === null ? 'no leader known' : seen.leader === row.node ? 'leads' : `follows ${nodeKey(row.region, seen.leader)}`;
      return `${row.name}: ${what}, term ${seen.term}\n${moment(seen.from)} to ${moment(seen.until)}`;
    },
  };

  const MEMBER_TALL = 17;
  function familyRows() {
    const rows = [];
    let top = 0;
    for (const [key, members] of [...families].slice(0, familiesShown)) {
      rows.push({ key, top });
      top += 20;
      for (const region of [...members.keys()].sort(inOrder)) {
        rows.push({ key, region, seen: members.get(region), top });
        top += MEMBER_TALL;
      }
      top += 8;
    }
    return { rows, height: top };
  }
  const stateInk = (state) => {
    if (state === 'Enabled') return colour.leaders[2];
    if (state.startsWith('Pending') && state !== 'PendingImport') return colour.bad;
    if (state === 'Creating' || state === 'Updating') return colour.fault;
    return colour.undone;
  };
  const familySheet = {
    canvas: document.querySelector('#panel-families canvas'),
    height: () => familyRows().height,
    draw(g, at) {
      const { rows } = familyRows();
      ground(g, at, allSteps);
      for (const row of rows) {
        const middle = row.top + MEMBER_TALL / 2;
        if (!row.seen) {
          g.fillStyle = colour.ink;
          g.textAlign = 'left';
          const text = fit(g, row.key, at.right - 4);
          // Over the lines of the grid.
          const room = g.measureText(text).width + 6;
          g.fillStyle = colour.paper;
          if (room > at.left) g.fillRect(at.left, row.top + 2, room - at.left, MEMBER_TALL);
          g.fillStyle = colour.ink;
          g.fillText(text, 0, middle + 2);
          continue;
        }
        label(g, at, regionIn(at, row.region), middle);
        within(g, at, () => {
          for (const { from, until, state, primary } of row.seen) {
            if (state === null || until < view.from || from > view.to) continue;
            const left = Math.max(at.left - 4, at.x(from)), right = Math.min(at.right + 4, at.x(until));
            const wide = Math.max(1, right - left);
            const [top, tall] = primary ? [row.top + 1, MEMBER_TALL - 3] : [middle - 3.5, 6];
            const ink = stateInk(state);
            const hollow = ink === colour.bad, striped = ink === colour.fault;
            g.fillStyle = striped ? hatch(g, ink) : ink;
            g.strokeStyle = ink;
            if (hollow) {
              g.lineWidth = 1.5;
              g.strokeRect(left + 0.75, top + 0.75, Math.max(0.5, wide - 1.5), tall - 1.5);
              g.lineWidth = 1;
            } else {
              g.fillRect(left, top, wide, tall);
              if (striped) g.strokeRect(left + 0.5, top + 0.5, Math.max(0.5, wide - 1), tall - 1);
            }
            const text = primary && wide > 40 ? fit(g, state, wide - 12) : '';
            if (text === state || text.length > 8) {
              if (striped) {
                g.fillStyle = colour.paper;
                g.fillRect(left + 3, top + 2, g.measureText(text).width + 4, tall - 4);
              }
              g.fillStyle = striped || hollow ? colour.ink : colour.paper;
              g.textAlign = 'left';
              g.fillText(text, Math.max(left, at.left) + 5, top + tall / 2 + 0.5);
            }
            g.fillStyle = colour.paper;
            g.fillRect(left - 0.5, top, 1, tall);
          }
        });
      }
      within(g, at, () => selectedLine(g, at));
    },
    hit(at, x, y) {
      const row = familyRows().rows.find(({ top, seen }) => seen && y >= top && y < top + MEMBER_TALL);
      const seen = row && stretchAt(at, x, row.seen);
      if (!seen) return null;
      const state = seen.state === null ? 'gone' : `${seen.primary ? 'primary' : 'replica'}, ${seen.state}`;
      return `${shortKey(row.key)} in ${row.region}\n${state}\n${moment(seen.from)} to ${moment(seen.until)}`;
    },
  };

  // ---- a call in words

  function element(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  }
  function select(i) {
    selected = i;
    const box = byId('call');
    box.replaceChildren();
    later();
    if (i < 0) return;
    const close = element('button', '×');
    close.type = 'button';
    close.setAttribute('aria-label', 'Close');
    close.addEventListener('click', () => { select(-1); byId('calls').focus({ preventScroll: true }); });
    const heading = element('h4');
    heading.append(element('span', operationOf(i)), element('span', ENDINGS[columns.outcome[i]], `end ${CLASSES[columns.outcome[i]]}`));
    const list = element('dl');
    const row = (term, text, name) => list.append(element('dt', term), element('dd', text, name));
    row('Call', `${digits(i)}, by ${lanes[laneOf.get(i)].name}${columns.caller[i] < 0 ? '' : ` as ${strings[columns.caller[i]]}`}`);
    row('Sent to', placeOf(i) + (columns.reads[i] < 0 ? '' : `, ${strings[columns.reads[i]]}`));
    row('Began', `${moment(start[i])}, ${tookOf(i)}`);
    if (strings[columns.asked[i]]) row('Asked', strings[columns.asked[i]], 'code');
    if (strings[columns.saw[i]]) row('Saw', strings[columns.saw[i]], 'code');
    const on = faults.filter((fault) => fault.from <= end[i] && untilOf(fault) >= start[i] && hits(fault, strings[columns.region[i]]));
    if (on.length) row('Meanwhile', on.slice(0, 5).map((fault) => `${fault.kind} (${hitOf(fault)})`).join(', ') + (on.length > 5 ? `, and ${on.length - 5} more` : ''));
    box.append(close, heading, list);
    if (data.cut) box.append(element('p', 'Long texts are cut here; the history has them whole.', 'note'));
  }
  // Selects a call and sees that it is in view, wide enough to be seen.
  function go(i, closer) {
    if (i === undefined || i < 0) return;
    const width = view.to - view.from;
    const want = closer ? Math.min(width, Math.max((end[i] - start[i]) * 12, span / 400, SHORTEST)) : width;
    if (want !== width || start[i] < view.from || Math.min(end[i], start[i] + width * 0.4) > view.to) {
      const middle = start[i] + Math.min(end[i] - start[i], want * 0.4) / 2;
      show(middle - want / 2, middle + want / 2);
    }
    select(i);
  }

  // ---- pointers and keys

  const tip = byId('tip');
  function tell(text, x, y) {
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, root.clientWidth - width - 8))}px`;
    tip.style.top = `${y + 18 + height > root.clientHeight ? Math.max(4, y - height - 12) : y + 18}px`;
  }
  function atOf(sheet) {
    const width = sheet.canvas.clientWidth;
    const area = areaOf(width);
    const perUs = (area.right - area.left) / (view.to - view.from);
    return { width, height: sheet.height(width), perUs, x: (us) => area.left + (us - view.from) * perUs, ...area };
  }
  function within2(sheet, event) {
    const box = sheet.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  function listen(sheet) {
    const { canvas } = sheet;
    const down = new Map();
    let moved = false, width = 0;
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button) return;
      down.set(event.pointerId, event.clientX);
      moved = false;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', (event) => {
      const at = atOf(sheet);
      const [x, y] = within2(sheet, event);
      const before = down.get(event.pointerId);
      if (before === undefined) {
        tell(sheet.hit(at, x, y), event.clientX, event.clientY);
        return;
      }
      if (!moved && Math.abs(event.clientX - before) < 4) return;
      moved = true;
      tell(null);
      if (down.size === 2) {
        const [other] = [...down].find(([id]) => id !== event.pointerId).slice(1);
        const was = Math.abs(before - other), is = Math.abs(event.clientX - other);
        const box = canvas.getBoundingClientRect();
        const middle = (event.clientX + other) / 2 - box.left;
        if (was > 4 && is > 4) zoom(was / is, view.from + (middle - at.left) / at.perUs);
      } else if (down.size === 1) {
        const by = (before - event.clientX) / at.perUs;
        show(view.from + by, view.to + by);
      }
      down.set(event.pointerId, event.clientX);
    });
    const up = (event) => {
      const was = down.delete(event.pointerId);
      if (!was || moved || event.type !== 'pointerup') return;
      const at = atOf(sheet);
      const [x, y] = within2(sheet, event);
      if (sheet.pick) sheet.pick(at, x, y);
      tell(sheet.pick ? null : sheet.hit(at, x, y), event.clientX, event.clientY);
    };
    canvas.addEventListener('pointerup', up);
    canvas.addEventListener('pointercancel', up);
    canvas.addEventListener('pointerleave', () => tell(null));
    canvas.addEventListener('dblclick', (event) => {
      const at = atOf(sheet);
      zoom(0.4, view.from + (within2(sheet, event)[0] - at.left) / at.perUs);
    });
    canvas.addEventListener('wheel', (event) => {
      const at = atOf(sheet);
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        zoom(1.0015 ** Math.max(-400, Math.min(400, event.deltaY * (event.deltaMode ? 16 : 1))), view.from + (within2(sheet, event)[0] - at.left) / at.perUs);
      } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && view.to - view.from < span) {
        event.preventDefault();
        const by = event.deltaX / at.perUs;
        show(view.from + by, view.to + by);
      }
    }, { passive: false });
  }

  function brush() {
    const { canvas } = overview;
    let from = null, grip = 0, moved = false;
    const timeAt = (event) => {
      const { left, right } = areaOf(canvas.clientWidth);
      const x = event.clientX - canvas.getBoundingClientRect().left;
      return Math.max(0, Math.min(span, ((x - left) / (right - left)) * span));
    };
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      from = timeAt(event);
      moved = false;
      // Within a part that was chosen, it is moved; elsewhere another is chosen.
      grip = view.to - view.from < span && from >= view.from && from <= view.to ? view.from - from : null;
    });
    canvas.addEventListener('pointermove', (event) => {
      if (from === null) return;
      const to = timeAt(event);
      if (!moved && Math.abs(to - from) < span * 0.004) return;
      moved = true;
      if (grip === null) show(Math.min(from, to), Math.max(from, to));
      else show(to + grip, to + grip + (view.to - view.from));
    });
    const up = (event) => {
      if (from !== null && !moved && event.type === 'pointerup' && view.to - view.from < span) {
        const half = (view.to - view.from) / 2;
        show(from - half, from + half);
      }
      from = null;
    };
    canvas.addEventListener('pointerup', up);
    canvas.addEventListener('pointercancel', up);
  }

  function keys(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !count) return;
    const lane = selected < 0 ? -1 : laneOf.get(selected);
    const nth = lane < 0 ? -1 : lanes[lane].calls.indexOf(selected);
    // Nothing is selected: the first call that is in view.
    const first = () => go(lanes[0].calls.find((i) => start[i] >= view.from) ?? lanes[0].calls[0]);
    const step = (by) => (lane < 0 ? first() : go(lanes[lane].calls[nth + by]));
    const change = (by) => {
      if (lane < 0) return first();
      const list = lanes[lane + by]?.calls;
      if (list) go(list.reduce((best, i) => (Math.abs(start[i] - start[selected]) < Math.abs(start[best] - start[selected]) ? i : best)));
    };
    const act = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1),
      ArrowUp: () => change(-1), ArrowDown: () => change(1),
      Home: () => lane >= 0 && go(lanes[lane].calls[0]), End: () => lane >= 0 && go(lanes[lane].calls.at(-1)),
      PageUp: () => pan(-0.8), PageDown: () => pan(0.8),
      '+': () => zoom(0.5, selected < 0 ? undefined : start[selected]),
      '=': () => zoom(0.5, selected < 0 ? undefined : start[selected]),
      '-': () => zoom(2, selected < 0 ? undefined : start[selected]),
      0: () => show(0, span),
      v: () => data.cited.length && go(data.cited.find((i) => i > selected) ?? data.cited[0], true),
      Escape: () => select(-1),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  // ---- all of it

  sheets.push(overview);
  if (faults.length) sheets.push(faultSheet);
  if (count) sheets.push(callSheet, rateSheet, latencySheet);
  if (data.leaders.length) sheets.push(leaderSheet);
  if (families.size) sheets.push(familySheet);
  sheets.filter((sheet) => sheet !== overview).forEach(listen);
  brush();
  callSheet.canvas.addEventListener('keydown', keys);
  byId('back').addEventListener('click', () => pan(-0.6));
  byId('forth').addEventListener('click', () => pan(0.6));
  byId('in').addEventListener('click', () => zoom(0.5));
  byId('out').addEventListener('click', () => zoom(2));
  byId('all').addEventListener('click', () => show(0, span));
  for (const link of document.querySelectorAll('a[data-call]')) {
    link.addEventListener('click', (event) => {
      event.preventDefault();
      go(Number(link.dataset.call), true);
      byId('panel-calls').scrollIntoView({ block: 'center' });
      callSheet.canvas.focus({ preventScroll: true });
    });
  }
  const more = byId('more-families');
  if (families.size > FAMILIES_FIRST) {
    more.hidden = false;
    more.textContent = `Show all ${digits(families.size)} families`;
    more.addEventListener('click', () => {
      const all = familiesShown < families.size;
      familiesShown = all ? families.size : FAMILIES_FIRST;
      more.textContent = all ? `Show the first ${FAMILIES_FIRST} families` : `Show all ${digits(families.size)} families`;
      later();
    });
  }
  function again() {
    stripes.clear();
    readColours();
    draw();
  }
  new ResizeObserver(later).observe(document.querySelector('main'));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', again);
  matchMedia('print').addEventListener('change', again);
  document.addEventListener('scroll', () => tell(null), { passive: true });

  readColours();
  draw();
  // When everything was drawn for the first time, since the page began to load.
  root.dataset.drawnMs = performance.now().toFixed(1);
})();
