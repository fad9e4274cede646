// Opens every page of a built book in headless Chromium and searches in it. Called by tests/book/check.
//
//   node walk.mjs BROWSER WORK SITE BOOK [LANGUAGE:TERM=PAGE ...]
//
// SITE is served on 127.0.0.1. A page for each Markdown file of BOOK must come with status 200, have an h1 and the
// language of its folder, stand in the sidebar, show each of its pictures, write no error to the console, have no link
// to a page or heading of the book that is not there, and ask no other host for anything. With TERM typed into the search
// of LANGUAGE, PAGE (as en/04_semaphore) must be among the results; with nothing behind the =, there must be none. A
// search is left out if its page is not in BOOK. WORK takes the browser's profile and log. Writes a line for each problem,
// and fails. Node's own modules only: the browser is spoken to through a pipe.
import {spawn} from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';

const [browserName, work, site, book] = process.argv.slice(2, 6).map((name, i) => (i === 0 ? name : path.resolve(name)));
const searches = process.argv.slice(6).map((argument) => {
  const [, language, term, page] = /^(\w+):(.*)=(.*)$/.exec(argument);
  return {language, term, page};
});
const problems = [];
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// --- The server ------------------------------------------------------------------------------------------------------

const types = {'.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml',
  '.json': 'application/json', '.woff2': 'font/woff2', '.png': 'image/png'};

// The file that a path of the site is, as any static server would say it.
function fileOf(pathname) {
  let file = path.join(site, path.normalize(decodeURIComponent(pathname)));
  if (pathname.endsWith('/')) file = path.join(file, 'index.html');
  return file.startsWith(site + path.sep) && fs.existsSync(file) && fs.statSync(file).isFile() ? file : undefined;
}

const server = http.createServer((request, response) => {
  const file = fileOf(new URL(request.url, 'http://localhost').pathname);
  response.writeHead(file ? 200 : 404, {'content-type': types[path.extname(file ?? '.html')] ?? 'application/octet-stream'});
  response.end(file ? fs.readFileSync(file) : 'not found');
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${server.address().port}`;

// --- The browser -----------------------------------------------------------------------------------------------------

const options = ['--headless', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-extensions',
  '--disable-sync', '--disable-background-networking', '--disable-component-update', '--disable-default-apps',
  '--proxy-server=127.0.0.1:9', `--user-data-dir=${path.join(work, 'profile')}`, '--window-size=1400,1000',
  '--remote-debugging-pipe'];
if (process.getuid() === 0) options.push('--no-sandbox');
const log = fs.openSync(path.join(work, 'browser.log'), 'w');
const browser = spawn(browserName, [...options, 'about:blank'], {stdio: ['ignore', log, log, 'pipe', 'pipe'], detached: true});
const gone = new Promise((resolve) => browser.on('exit', resolve));
let leaving = false;
function end(code) {
  if (leaving) return;
  leaving = true;
  try { process.kill(-browser.pid, 'SIGKILL'); } catch { /* it has ended */ }
  process.exit(code);
}
gone.then(() => {
  if (leaving) return;
  console.log(`✗ the browser ended by itself; see ${path.join(work, 'browser.log')}`);
  end(1);
});
const watchdog = setTimeout(() => {
  console.log('✗ the browser took more than 8 minutes');
  end(1);
}, 480_000);

let last = 0, session;
const answers = new Map(), listeners = new Map();
function send(method, parameters = {}) {
  const id = ++last;
  browser.stdio[3].write(JSON.stringify({id, method, params: parameters, sessionId: session}) + '\0');
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the browser does not answer ${method}`)), 60_000);
    answers.set(id, (answer) => {
      clearTimeout(timer);
      if (answer.error) reject(new Error(`${method}: ${answer.error.message}`));
      else resolve(answer.result);
    });
  });
}
const on = (event, listener) => listeners.set(event, listener);
let received = Buffer.alloc(0);
browser.stdio[4].on('data', (data) => {
  received = Buffer.concat([received, data]);
  for (let end; (end = received.indexOf(0)) !== -1; received = received.subarray(end + 1)) {
    const message = JSON.parse(received.subarray(0, end));
    if (message.id) answers.get(message.id)?.(message), answers.delete(message.id);
    else listeners.get(message.method)?.(message.params);
  }
});
async function evaluate(expression) {
  const {result, exceptionDetails} = await send('Runtime.evaluate', {expression, returnByValue: true, awaitPromise: true});
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}

// --- What a page does ------------------------------------------------------------------------------------------------

let here, status, loaded, quietSince, underWay = new Map();
const complain = (why) => {
  const line = `${here}: ${why.replaceAll('\n', ' ')}`;
  if (!problems.includes(line)) problems.push(line);
};
const still = () => { quietSince = Date.now(); };

on('Network.requestWillBeSent', ({requestId, loaderId, request}) => {
  underWay.set(requestId, loaderId);
  still();
  if (!/^(data|blob|about):/.test(request.url) && new URL(request.url).origin !== origin)
    complain(`asks another host: ${request.url}`);
});
on('Network.responseReceived', ({type, response}) => {
  if (type === 'Document') status = response.status;
  if (response.status >= 400) complain(`status ${response.status} for ${response.url}`);
});
on('Network.loadingFinished', ({requestId}) => { underWay.delete(requestId); still(); });
on('Network.loadingFailed', ({requestId, canceled, errorText}) => {
  underWay.delete(requestId);
  still();
  if (!canceled) complain(`a request fails: ${errorText}`);
});
on('Page.loadEventFired', () => { loaded = true; still(); });
on('Runtime.exceptionThrown', ({exceptionDetails: e}) => complain(`throws: ${e.exception?.description ?? e.text}`));
on('Runtime.consoleAPICalled', ({type, args}) => {
  if (type === 'error' || type === 'assert') complain(`console: ${args.map((a) => a.value ?? a.description).join(' ')}`);
});
on('Log.entryAdded', ({entry}) => { if (entry.level === 'error') complain(`log: ${entry.text} ${entry.url ?? ''}`); });

// Opens a page and waits until it asks for nothing more.
async function open(pathname) {
  here = pathname;
  status = undefined;
  loaded = false;
  underWay = new Map();
  still();
  // A request of the page before, begun while it was left, has another loader, and no end.
  const {loaderId} = await send('Page.navigate', {url: origin + pathname});
  const busy = () => !loaded || [...underWay.values()].includes(loaderId) || Date.now() - quietSince < 150;
  for (const limit = Date.now() + 30_000; busy();) {
    if (Date.now() > limit) return complain('is still loading after 30 seconds');
    await pause(20);
  }
}

const links = [], ids = new Map();

async function look(page) {
  await open(page.url);
  if (status !== 200) return complain(`status ${status}`);
  const found = await evaluate(`({
    h1: document.querySelector('h1')?.innerText.replaceAll('\\u200b', '').trim() ?? '',
    language: document.documentElement.lang,
    pictures: [...document.images].map((i) => ({source: i.currentSrc || i.src, drawn: i.complete && i.naturalWidth > 0})),
    links: [...document.querySelectorAll('a[href]')].map((a) => a.href),
    sidebar: [...document.querySelectorAll('.VPSidebar a[href]')].map((a) => a.pathname),
    ids: [...document.querySelectorAll('[id]')].map((e) => e.id)
  })`);
  if (!found.h1) complain('has no h1');
  if (page.language && !found.language.startsWith(page.language)) complain(`its language is ${found.language}`);
  if (page.language && page.name !== 'index' && !found.sidebar.includes(page.url)) complain('is not in the sidebar');
  for (const picture of found.pictures) if (!picture.drawn) complain(`does not show ${picture.source.slice(0, 100)}`);
  ids.set(page.url, found.ids);
  for (const link of found.links) links.push({from: page.url, link});
  return found.pictures.length;
}

function follow({from, link}) {
  here = from;
  const url = new URL(link);
  if (url.origin !== origin) {
    if (!['http:', 'https:', 'mailto:'].includes(url.protocol)) complain(`has a link to ${link}`);
    return;
  }
  const target = fileOf(url.pathname);
  if (!target) return complain(`has a link to ${url.pathname}, which is not there`);
  const heading = decodeURIComponent(url.hash.slice(1));
  const page = url.pathname.replace(/index\.html$/, '');
  if (heading && ids.has(page) && !ids.get(page).includes(heading))
    complain(`has a link to ${page}#${heading}, where nothing has that id`);
}

// The pages that the search of a language finds for a term, best first, as it shows them.
async function results(language, term) {
  await open(`/${language}/`);
  await evaluate(`sessionStorage.clear()`);
  const until = async (expression, what) => {
    for (const limit = Date.now() + 20_000;;) {
      const value = await evaluate(expression);
      if (value) return value;
      if (Date.now() > limit) throw new Error(`the search ${what}`);
      await pause(50);
    }
  };
  await until(`(document.querySelector('#localsearch-input') ||
    document.querySelector('.VPNavBarSearch button')?.click(), !!document.querySelector('#localsearch-input'))`, 'does not open');
  await evaluate(`document.querySelector('#localsearch-input').focus()`);
  await send('Input.insertText', {text: term});
  return until(`(() => {
    const found = [...document.querySelectorAll('#localsearch-list a')].map((a) => a.pathname);
    return found.length !== 0 || document.querySelector('.no-results') ? found : undefined;
  })()`, 'gives no answer');
}

async function search({language, term, page}) {
  const found = await results(language, term);
  here = `search in ${language} for "${term}"`;
  if (!page) return found.length === 0 || complain(`finds ${found[0]}`);
  const names = found.map((pathname) => pathname.slice(1).replace(/\.html$/, ''));
  if (!names.includes(page)) return complain(`does not find ${page}, but ${names.join(' ') || 'nothing'}`);
  const stranger = names.find((name) => !name.startsWith(`${language}/`));
  if (stranger) return complain(`finds ${stranger}, of the other language`);
  const source = path.join(book, names[0].replace(/\/$/, '/index') + '.md');
  if (!fs.readFileSync(source, 'utf8').toLowerCase().includes(term.toLowerCase()))
    return complain(`puts ${names[0]} first, where the term does not occur`);
  const key = {key: 'Enter', code: 'Enter', windowsVirtualKeyCode: 13, text: '\r'};
  await send('Input.dispatchKeyEvent', {type: 'keyDown', ...key});
  await send('Input.dispatchKeyEvent', {type: 'keyUp', ...key});
  for (const limit = Date.now() + 10_000; await evaluate('location.pathname') !== found[0];) {
    if (Date.now() > limit) return complain(`does not open ${found[0]}`);
    await pause(50);
  }
}

// --- The walk --------------------------------------------------------------------------------------------------------

const pages = [];
for (const language of ['', 'en', 'zh']) {
  const folder = path.join(book, language);
  for (const file of fs.existsSync(folder) ? fs.readdirSync(folder).sort() : []) {
    if (!file.endsWith('.md')) continue;
    const name = file.slice(0, -3);
    pages.push({language, name, url: `/${language && language + '/'}${name === 'index' ? '' : name + '.html'}`});
  }
}

let pictures = 0, searched = 0;
try {
  const {targetInfos} = await send('Target.getTargets');
  const {targetId} = targetInfos.find((target) => target.type === 'page');
  session = (await send('Target.attachToTarget', {targetId, flatten: true})).sessionId;
  for (const domain of ['Page', 'Network', 'Runtime', 'Log']) await send(`${domain}.enable`);
  for (const page of pages) pictures += await look(page) ?? 0;
  for (const link of links) follow(link);
  for (const wanted of searches) {
    if (wanted.page && !fs.existsSync(path.join(book, wanted.page + '.md'))) continue;
    await search(wanted);
    ++searched;
  }
} catch (e) {
  complain(e.message);
}
clearTimeout(watchdog);

if (pages.length === 0) problems.push(`${book} has no pages`);
for (const problem of problems) console.log(`✗ ${problem}`);
if (problems.length === 0)
  console.log(`✓ ${pages.length} pages, ${pictures} pictures, ${links.length} links, ${searched} of ${searches.length} searches`);
end(problems.length === 0 ? 0 : 1);
