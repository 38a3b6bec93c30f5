// The report's charts, which Plotly draws: those of trials from `study` (payload.py), the others as charts.py made them.
'use strict';
const NEUTRAL = '#808892';
let study = null, plotly = null;

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), letter => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text();
}

async function loadPlotly() {
  const text = await unpacked('plotly');
  document.head.append(made('script', text));
  return window.Plotly;
}

const AXIS = {automargin: true, zeroline: false, gridcolor: '#80889244', linecolor: '#80889288'};
const CONFIG = {responsive: true, displaylogo: false, displayModeBar: false};

function draw(place, {data, layout, last = ''}) {
  place.dataset.last = last;  // the style sheet gives the last trace the page's ink
  const titled = axis => ({...AXIS, ...axis, title: {standoff: 8, font: {size: 12}, ...axis?.title}});
  plotly.react(place, data, {
    margin: {l: 60, r: 16, t: 16, b: 46}, paper_bgcolor: 'transparent', plot_bgcolor: 'transparent', hovermode: 'closest',
    font: {family: 'system-ui, sans-serif', size: 12}, hoverlabel: {align: 'left'}, dragmode: 'zoom',
    legend: {orientation: 'h', x: 0, y: 1.02, yanchor: 'bottom', bgcolor: 'transparent'}, ...layout,
    xaxis: titled(layout.xaxis), yaxis: titled(layout.yaxis),
  }, CONFIG);
  if (place.dataset.drawn) return;
  place.dataset.drawn = 'yes';
  place.on('plotly_click', ({points}) => {
    const cell = points[0].customdata;
    if (study.cells.includes(cell)) location.hash = `#cell-${cell}`;
  });
}

const trialsOf = cell => study.trials.c.flatMap((own, i) => own === cell ? [i] : []);
const configuration = i => {
  const names = study.methods[study.trials.m[i]].names;
  return names.flatMap((name, k) => study.trials.v[i][k] === null ? [] : [[name, study.trials.v[i][k]]]);
};
const readable = value => typeof value === 'number' ? String(Number.isInteger(value) ? value : Number(value.toPrecision(3)))
  : Array.isArray(value) ? value.map(readable).join(' + ') : typeof value === 'string' ? value : JSON.stringify(value);
const yaml = value => typeof value === 'number' ? String(value).replace(/^(-?\d+)e/, '$1.0e') : JSON.stringify(value);

function trialText(i) {
  const t = study.trials, method = study.methods[t.m[i]];
  const settings = configuration(i).map(([name, value]) => `${name}=${readable(value)}`);
  const lines = [];
  for (let k = 0; k < settings.length; k += 3) lines.push(settings.slice(k, k + 3).join(', '));
  return [`<b>${escaped(method.label)} #${t.t[i]}</b> ${t.phase[i] === 'search' ? '' : t.phase[i]} ${t.state[i] === 'complete' ? '' : t.state[i]}`,
    `score ${shown(t.s[i])}, utility × healed ${shown(t.x[i])}`, `healed ${shown(t.h[i])}, utility ${shown(t.u[i])}`,
    ...lines.map(escaped)].join('<br>');
}

function points(method, x, y, texts, more = {}) {
  return {type: 'scatter', mode: 'markers', name: escaped(method.label), legendgroup: method.name, x, y, hoverinfo: 'text',
    hovertext: texts, ...more, marker: {color: method.colour, symbol: method.symbol, size: 8, ...more.marker}};
}

// Trials of one cell that lie on one point are one mark, larger for more of them; all are named when it is pointed at.
function paretoOfCell(cell, stretch) {
  const t = study.trials;
  const own = trialsOf(cell).filter(i => t.phase[i] === 'search' && t.state[i] === 'complete' && t.h[i] !== null && t.u[i] !== null);
  const at = new Map();
  for (const i of own) {
    const key = `${t.h[i]},${t.u[i]}`;
    at.set(key, [...(at.get(key) ?? []), i]);
  }
  const told = i => {
    const here = at.get(`${t.h[i]},${t.u[i]}`);
    if (here.length === 1) return trialText(i);
    const names = here.slice(0, 12).map(j => `${escaped(study.methods[t.m[j]].label)} #${t.t[j]}`);
    const more = here.length > 12 ? ` and ${here.length - 12} more` : '';
    return `<b>${here.length} trials here</b><br>healed ${shown(t.h[i])}, utility ${shown(t.u[i])}<br>${names.join('<br>')}${more}`;
  };
  const best = own.toSorted((a, b) => t.h[b] - t.h[a] || t.u[b] - t.u[a]);
  const front = [];
  for (const i of best) if (!front.length || t.u[i] > t.u[front.at(-1)]) front.push(i);
  const line = {type: 'scatter', mode: 'lines', name: 'Pareto front', x: front.map(i => t.h[i]), y: front.map(i => t.u[i]),
    line: {shape: 'vh', color: NEUTRAL, width: 1.5}, hoverinfo: 'skip'};
  const traces = study.methods.flatMap((method, m) => {
    const mine = own.filter(i => t.m[i] === m);
    const distinct = mine.filter((i, k) => mine.findIndex(j => t.h[i] === t.h[j] && t.u[i] === t.u[j]) === k);
    const count = i => mine.filter(j => t.h[i] === t.h[j] && t.u[i] === t.u[j]).length;
    const chosen = i => mine.some(j => t.t[j] === study.selected[cell][m] && t.h[i] === t.h[j] && t.u[i] === t.u[j]);
    return distinct.length ? [points(method, distinct.map(i => t.h[i]), distinct.map(i => t.u[i]), distinct.map(told), {marker: {
      size: distinct.map(i => 7 + 3 * Math.sqrt(count(i) - 1) + (chosen(i) ? 6 : 0)), opacity: distinct.map(i => chosen(i) ? 1 : 0.6),
      line: {color: NEUTRAL, width: distinct.map(i => chosen(i) ? 2 : 0)}}})] : [];
  });
  return paretoLayout([line, ...traces], stretch);
}

function paretoOfAll(stretch) {
  const t = study.trials;
  const traces = study.methods.flatMap((method, m) => {
    const own = t.c.flatMap((c, i) => t.m[i] === m && t.phase[i] === 'search' && t.t[i] === study.selected[c][m] && t.h[i] !== null ? [i] : []);
    const texts = own.map(i => `<b>${escaped(study.cells[t.c[i]])}</b><br>${trialText(i)}`);
    return own.length ? [points(method, own.map(i => t.h[i]), own.map(i => t.u[i]), texts,
      {customdata: own.map(i => study.cells[t.c[i]]), marker: {size: 10, opacity: 0.8}})] : [];
  });
  return paretoLayout(traces, stretch);
}

// Near 1, where good trials crowd, the axes are stretched: 0.9 lies in the middle between 0 and 1.
const stretched = value => -Math.log10(1.01 - value);
const STRETCHED_TICKS = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 1];

function paretoLayout(data, stretch) {
  if (stretch) data = data.map(trace => ({...trace, x: trace.x.map(stretched), y: trace.y.map(stretched)}));
  const axis = title => ({title: {text: stretch ? `${title} (stretched towards 1)` : title},
    ...stretch && {tickvals: STRETCHED_TICKS.map(stretched), ticktext: STRETCHED_TICKS.map(String)}});
  return {data, layout: {height: 520, xaxis: axis('healed'), yaxis: axis('utility')}};
}

function isolation(choice) {
  const known = study.curves.flatMap((curves, c) => curves && (choice < 0 || choice === c) ? [curves] : []);
  const epochs = Math.max(...known.map(([both]) => both.length));
  const mean = path => Array.from({length: epochs}, (_, e) => {
    const values = known.filter(curves => e < curves[path].length).map(curves => curves[path][e]);
    return values.reduce((a, b) => a + b, 0) / values.length;
  });
  const looks = [['old and new channels, own mask', {width: 7, color: '#80889277'}], ['old and new, shared mask', {width: 3, dash: 'dot', color: NEUTRAL}],
    ['old channels alone', {width: 2, color: NEUTRAL}]];
  const data = looks.map(([name, line], path) => {
    const y = mean(path);
    return {type: 'scatter', mode: path === 2 ? 'lines+markers' : 'lines', name, x: y.map((_, e) => e), y, line, hoverinfo: 'text',
      hovertext: y.map((value, e) => `epoch ${e}: ${shown(value)}<br>${name}`)};
  });
  return {data, last: 'ink', layout: {height: 340, xaxis: {title: {text: 'epoch'}}, yaxis: {range: [-0.03, 1.03], title: {text: 'accuracy on the wrong labels'}}}};
}

function history(cell) {
  const t = study.trials, data = [];
  study.methods.forEach((method, m) => {
    const own = trialsOf(cell).filter(i => t.m[i] === m && t.phase[i] === 'search').sort((a, b) => t.t[a] - t.t[b]);
    const done = own.filter(i => t.state[i] === 'complete' && t.s[i] !== null);
    let best = -Infinity;
    const line = done.map(i => best = Math.max(best, t.s[i]));
    if (done.length) {
      data.push({type: 'scatter', mode: 'lines', x: done.map(i => t.t[i]), y: line, line: {shape: 'hv', color: method.colour, width: 2},
        hoverinfo: 'skip', showlegend: false, legendgroup: method.name});
      data.push(points(method, done.map(i => t.t[i]), done.map(i => t.s[i]), done.map(trialText)));
    }
    const lost = own.filter(i => t.state[i] === 'failed' || t.state[i] === 'pruned');
    if (lost.length) data.push(points(method, lost.map(i => t.t[i]), lost.map(i => t.s[i] ?? -0.03), lost.map(trialText),
      {showlegend: false, marker: {symbol: 'x-thin-open', size: 8, line: {width: 1.5}}}));
  });
  return {data, layout: {height: 380, xaxis: {title: {text: 'trial (0 is the default configuration)'}, rangemode: 'tozero', dtick: data.some(d => d.x.length > 12) ? undefined : 1},
    yaxis: {range: [-0.06, 1.04], title: {text: 'score, selection split'}}}};
}

// Where values lie on an axis from 0 to 1, and its ends or names.
function scaleOf(values) {
  const known = values.filter(value => value !== null && value !== undefined);
  if (known.every(value => typeof value === 'number')) {
    const low = Math.min(...known), high = Math.max(...known), log = low > 0 && high / low >= 30;
    const f = log ? Math.log : value => value;
    return {at: value => value === null || value === undefined ? null : high === low ? 0.5 : (f(value) - f(low)) / (f(high) - f(low)), ticks: [[0, readable(low)], [1, readable(high)]]};
  }
  const names = [...new Set(known.map(readable))].sort();
  const height = name => names.length < 2 ? 0.5 : names.indexOf(name) / (names.length - 1);
  return {at: value => value === null || value === undefined ? null : height(readable(value)), ticks: names.map(name => [height(name), name])};
}

const mixed = share => {  // from the page's lines to its links, so that the best stand out in light and dark
  const style = getComputedStyle(document.documentElement);
  const [from, to] = ['--line', '--link'].map(name => style.getPropertyValue(name).match(/[\da-f]{2}/gi).map(digits => parseInt(digits, 16)));
  return `rgb(${from.map((value, k) => Math.round(value + share * (to[k] - value)))})`;
};

function parallel(cell, m) {
  const t = study.trials, method = study.methods[m];
  const own = trialsOf(cell).filter(i => t.m[i] === m && t.phase[i] === 'search' && t.state[i] === 'complete' && t.s[i] !== null);
  own.sort((a, b) => t.s[a] - t.s[b]);
  const searched = method.names.map((name, k) => [name, k]).filter(([, k]) => new Set(own.map(i => JSON.stringify(t.v[i][k]))).size > 1);
  if (!searched.length) return null;
  const axes = [...searched.map(([name, k]) => ({name, values: own.map(i => t.v[i][k])})), {name: 'score', values: own.map(i => t.s[i])}]
    .map(axis => ({...axis, ...scaleOf(axis.values)}));
  const last = axes.at(-1);
  const line = (row, look) => ({type: 'scatter', mode: 'lines+markers', x: axes.map((_, k) => k), y: axes.map(axis => axis.at(axis.values[row])), ...look,
    connectgaps: false, hoverinfo: 'text', hovertext: axes.map(() => trialText(own[row])), showlegend: false});
  const chosen = own.findIndex(i => t.t[i] === study.selected[cell][m]);
  const data = own.map((i, row) => line(row, {line: {color: mixed(last.at(t.s[i])), width: 1 + 1.5 * last.at(t.s[i])}, marker: {size: 5}}));
  if (chosen >= 0) data.push(line(chosen, {line: {color: NEUTRAL, width: 3.5}, marker: {size: 10, symbol: 'diamond'}}));
  const ticks = axes.flatMap((axis, k) => axis.ticks.map(([height, text]) => ({x: k, y: height, text: escaped(text), showarrow: false, font: {size: 11},
    xanchor: 'left', xshift: 6, yshift: height === 0 ? -9 : height === 1 ? 9 : 0})));
  return {data, last: chosen >= 0 ? 'ink' : '', layout: {height: 340, margin: {l: 40, r: 70, t: 60, b: 24}, annotations: ticks, yaxis: {visible: false, range: [-0.1, 1.1], fixedrange: true},
    xaxis: {side: 'top', range: [-0.2, axes.length - 0.4], tickvals: axes.map((_, k) => k), ticktext: axes.map(axis => escaped(axis.name).replace(/_/g, '<br>')), fixedrange: true}}};
}

function chartOf(place) {
  const [kind, cell] = place.dataset.chart.split(':');
  const choice = Number(place.closest('figure').querySelector('select')?.value ?? -1);
  const stretch = place.closest('figure').querySelector('input[type=checkbox]')?.checked;
  if (kind === 'pareto') return choice < 0 ? paretoOfAll(stretch) : paretoOfCell(choice, stretch);
  if (kind === 'rem_isolation') return isolation(choice);
  if (kind === 'history') return history(Number(cell));
  if (kind === 'parallel') return parallel(Number(cell), choice);
  return study.charts[kind];
}

function show(place) {
  const chart = chartOf(place);
  if (chart) return draw(place, chart);
  if (place.dataset.drawn) plotly.purge(place);
  delete place.dataset.drawn;
  place.replaceChildren(made('p', 'Fewer than two different configurations were finished: nothing to compare.', {class: 'absent'}));
}

async function visible(place) {
  plotly ??= loadPlotly();
  plotly = await plotly;
  if (!place.dataset.drawn) show(place);
}
