// The report's page: sorting, copying, pointing, a cell's trials, and when its charts (charts.js) are drawn.
'use strict';
const all = (css, root = document) => Array.from(root.querySelectorAll(css));
const escaped = text => String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
const shown = (value, digits = 3) => value === null ? '–' : value.toFixed(digits).replace('-', '−');
const made = (tag, content = '', attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = content;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

// --- tables: a click on a head sorts by it -------------------------------------------------------------------------

function sortValue(cell) {
  const told = cell.querySelector('data')?.value ?? cell.textContent.trim();
  const number = parseFloat(told.replace('−', '-').replace(/^\+/, '').replace(/,/g, ''));
  return /^[-−+]?[\d.]/.test(told) && !Number.isNaN(number) ? number : told === '–' ? null : told.toLowerCase();
}

function sortBy(head, table) {
  const place = head.cellIndex, body = table.tBodies[0];
  const numeric = head.classList.contains('number');
  const down = head.getAttribute('aria-sort') ? head.getAttribute('aria-sort') === 'ascending' : numeric;
  all('th', table.tHead).forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const rows = Array.from(body.rows, row => [sortValue(row.cells[place]), row]);
  const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === 'number' ? -1 : 1;
  rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : (down ? -1 : 1) * order(a, b));
  body.append(...rows.map(([, row]) => row));
}

function makeSortable(table) {
  if (table.tBodies[0].rows.length < 2) return;
  for (const head of table.tHead.rows[0].cells) {
    const button = made('button', head.textContent, {type: 'button', class: 'sort'});
    button.addEventListener('click', () => sortBy(head, table));
    head.replaceChildren(button);
  }
}

// --- copying -------------------------------------------------------------------------------------------------------

async function copy(button) {
  const text = button.dataset.copy, words = button.textContent;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // a frame that may not
    const area = made('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand('copy');
    area.remove();
  }
  button.textContent = done ? 'copied' : 'not allowed here';
  setTimeout(() => { button.textContent = words; }, 1200);
}

// --- pointing: what a square holds ---------------------------------------------------------------------------------

function tipOf(element) {
  if (element.dataset.tip) return element.dataset.tip;
  const cell = study?.cells.indexOf(decodeURIComponent(element.hash.slice('#cell-'.length)));
  return study?.tips[cell]?.[Number(element.dataset.of)];
}

function point(element, x, y) {
  const tip = document.getElementById('tip'), text = element && tipOf(element);
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? Math.max(4, y - tip.offsetHeight - 12) : y + 18}px`;
}

function listenToPointing() {
  const target = event => event.target.closest?.('[data-tip],[data-of]');
  document.addEventListener('pointerover', event => point(target(event), event.clientX, event.clientY));
  document.addEventListener('focusin', event => {
    const box = event.target.getBoundingClientRect();
    point(target(event), box.left, box.bottom - 12);
  });
  document.addEventListener('keydown', event => { if (event.key === 'Escape') point(null); });
  addEventListener('scroll', () => point(null), {passive: true});
}

// --- a cell's trials -----------------------------------------------------------------------------------------------

function trialsTable(cell) {
  const t = study.trials;
  const heads = ['method', 'trial', 'phase', 'state', 'replicates', 'score', 'utility × healed', 'healed', 'utility', 'configuration', ''];
  const numbers = new Set([1, 4, 5, 6, 7, 8]);
  const table = made('table', '', {class: 'list'}), head = table.createTHead().insertRow(), body = table.createTBody();
  heads.forEach((name, k) => head.append(made('th', name, numbers.has(k) ? {scope: 'col', class: 'number'} : {scope: 'col'})));
  const base = document.querySelector('[data-base]')?.value;
  for (const i of trialsOf(cell)) {
    const row = body.insertRow();
    const cells = [study.methods[t.m[i]].label, t.t[i], t.phase[i], t.state[i], t.n[i], shown(t.s[i]), shown(t.x[i]), shown(t.h[i]), shown(t.u[i])];
    cells.forEach((value, k) => row.append(made('td', value, numbers.has(k) ? {class: 'number'} : {})));
    row.insertCell().append(made('code', configuration(i).map(([name, value]) => `${name}=${readable(value)}`).join(', ')));
    const ways = row.insertCell();
    ways.append(made('button', 'copy configuration', {type: 'button', class: 'copy',
      'data-copy': configuration(i).map(([name, value]) => `${name}: ${yaml(value)}\n`).join('')}));
    if (t.run[i] && base) ways.append(made('a', 'MLflow run', {class: 'go', 'data-run': t.run[i], href: `${base}/#/runs/${t.run[i]}`, target: '_blank'}));
  }
  makeSortable(table);
  return table;
}

// --- the page ------------------------------------------------------------------------------------------------------

function followMlflow() {
  const field = document.querySelector('[data-base]');
  field?.addEventListener('change', () => all('a[data-run]').forEach(link => { link.href = `${field.value.replace(/\/$/, '')}/#/runs/${link.dataset.run}`; }));
}

function onPaper() {
  const there = () => all('.plot').filter(place => place.offsetParent);
  addEventListener('beforeprint', () => {
    if (!window.Plotly) return;
    for (const place of there()) {
      if (!place.dataset.drawn) show(place);
      if (place.dataset.drawn) plotly.relayout(place, {width: place.closest('.maps') ? 335 : 690, autosize: false});
    }
  });
  addEventListener('afterprint', () => there().filter(place => place.dataset.drawn).forEach(place => plotly.relayout(place, {width: null, autosize: true})));
}

async function begin() {
  all('table.list').forEach(makeSortable);
  document.addEventListener('click', event => { const button = event.target.closest('.copy'); if (button) copy(button); });
  listenToPointing();
  followMlflow();
  if (!document.getElementById('payload')) return;
  study = JSON.parse(await unpacked('payload'));
  const watcher = new IntersectionObserver(entries => entries.filter(entry => entry.isIntersecting).forEach(entry => visible(entry.target)), {rootMargin: '300px'});
  all('.plot').forEach(place => watcher.observe(place));
  all('.chart select, .chart input').forEach(choice => choice.addEventListener('change', () => show(choice.closest('figure').querySelector('.plot'))));
  all('details[data-trials]').forEach(fold => fold.addEventListener('toggle', () => {
    if (!fold.querySelector('table')) fold.querySelector('.wide').append(trialsTable(Number(fold.dataset.trials)));
  }));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => all('.plot[data-drawn]').forEach(show));
  onPaper();
  document.documentElement.dataset.ready = 'yes';
  setTimeout(async () => { plotly = await (plotly ??= loadPlotly()); }, 300);  // printing cannot wait for it
}

begin().catch(error => {
  all('.plot').forEach(place => place.replaceChildren(made('p', `No charts: ${error.message}. The folder figures/ has them as pictures.`, {class: 'absent'})));
});
