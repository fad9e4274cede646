// Is no page of the book behind the other language, or behind the examples? Called by tests/book/check.
//
//   node sources.mjs BOOK    BOOK is the folder book/, or a copy of it beside a copy of examples/
//
// Each English page has a Chinese one and the other way round, with the same `<<<` lines and the same pictures in the same
// order, as many "## " headings, and in its head the same numbers and as many objectives; each picture is there, and each
// region is once in its file. Writes a line for each thing that is not so, and fails.
import fs from 'node:fs';
import path from 'node:path';

const book = path.resolve(process.argv[2]);
const problems = [];

function pages(language) {
  const folder = path.join(book, language);
  return fs.existsSync(folder) ? fs.readdirSync(folder).filter((name) => name.endsWith('.md')).sort() : [];
}

function look(language, name) {
  const file = path.join(book, language, name), page = `${language}/${name}`;
  const source = fs.readFileSync(file, 'utf8').replace(/\r\n/g, '\n');
  const [, head = ''] = /^---\n(.*?)\n---\n/s.exec(source) ?? [];
  const found = {page, includes: [], pictures: [], headings: 0, head: []};
  for (const field of ['minutes', 'exercise_minutes', 'needs'])
    found.head.push(`${field}: ${new RegExp(`^${field}:(.*)$`, 'm').exec(head)?.[1].trim() ?? 'not said'}`);
  for (const list of ['objectives', 'out_of_scope']) {
    const [, items = ''] = new RegExp(`^${list}:\\n((?:  - .*\\n)*)`, 'm').exec(head + '\n') ?? [];
    found.head.push(`${list}: ${items.split('\n').length - 1}`);
  }

  let fence = '';
  for (const line of source.split('\n')) {
    const [, mark] = /^\s*(```+|~~~+)/.exec(line) ?? [];
    if (mark && !fence) fence = mark;
    else if (mark && line.trim().startsWith(fence)) fence = '';
    if (fence || mark) continue;
    if (/^## /.test(line)) ++found.headings;
    for (const [, picture] of line.matchAll(/!\[[^\]]*\]\(([^)\s]+)[^)]*\)/g)) {
      const at = path.resolve(path.dirname(file), decodeURI(picture));
      found.pictures.push(path.relative(book, at));
      if (!fs.existsSync(at)) problems.push(`${page}: shows ${picture}, which is not there`);
    }
    if (!line.startsWith('<<<')) continue;
    found.includes.push(line.trim());
    const [, to, region] = /^<<<\s+(\S+?)(?:#([\w-]+))?\{\w+\}\s*$/.exec(line) ?? [];
    if (!to) {
      problems.push(`${page}: not of the form "<<< FILE#REGION{LANGUAGE}": ${line}`);
      continue;
    }
    const example = to.startsWith('@/') ? path.join(book, to.slice(2)) : path.resolve(path.dirname(file), to);
    if (!fs.existsSync(example)) {
      problems.push(`${page}: includes ${to}, which is not there`);
    } else if (region) {
      const lines = fs.readFileSync(example, 'utf8').split('\n').map((l) => l.trim());
      const begins = lines.filter((l) => l === `// [${region}]`), ends = lines.filter((l) => l === `// [/${region}]`);
      if (begins.length !== 1 || ends.length !== 1) problems.push(`${page}: ${to} has no region ${region}, or two of them`);
    }
  }
  return found;
}

function compare(english, chinese, what) {
  const a = english[what], b = chinese[what];
  for (let i = 0; i < Math.max(a.length, b.length); ++i) {
    if (a[i] === b[i]) continue;
    problems.push(`${chinese.page}: ${what} differ from ${english.page}: "${b[i] ?? 'no more'}" for "${a[i] ?? 'no more'}"`);
    return;
  }
}

const english = pages('en'), chinese = pages('zh');
if (english.length === 0) problems.push('en: no pages found');
for (const name of english) if (!chinese.includes(name)) problems.push(`zh/${name}: is missing; there is en/${name}`);
for (const name of chinese) if (!english.includes(name)) problems.push(`en/${name}: is missing; there is zh/${name}`);
const looked = new Map(english.map((name) => [name, look('en', name)]));
for (const name of chinese) {
  const page = look('zh', name), original = looked.get(name);
  if (!original) continue;
  for (const what of ['includes', 'pictures', 'head']) compare(original, page, what);
  if (page.headings !== original.headings)
    problems.push(`${page.page}: has ${page.headings} headings "## "; ${original.page} has ${original.headings}`);
}

for (const problem of problems) console.log(`✗ ${problem}`);
if (problems.length === 0) {
  const includes = [...looked.values()].reduce((sum, page) => sum + page.includes.length, 0);
  console.log(`✓ ${english.length} pages in English and in Chinese say the same of ${includes} pieces of the examples`);
}
process.exitCode = problems.length === 0 ? 0 : 1;
