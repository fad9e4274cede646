// Looks at each file as a browser sees it and writes a line "ok NAME: ..." or "bad NAME: why" for it into #result.
// `dark` and `files` ({name, base64}) come from tests/browser/check, which has an <img> for each picture in the page.
'use strict';

function text(file) {
  return new TextDecoder('utf-8', {fatal: true}).decode(Uint8Array.from(atob(file.base64), (c) => c.charCodeAt(0)));
}
function must(condition, why) {
  if (!condition) throw new Error(why);
}

// A picture: well-formed, alone, all of it inside its edges, and on paper of its own, dark on a dark page if it says so.
function lookAtPicture(file) {
  const source = text(file);
  const parsed = new DOMParser().parseFromString(source, 'image/svg+xml');
  const mistake = parsed.querySelector('parsererror');
  must(!mistake, 'it is not well-formed: ' + (mistake || {}).textContent);
  must(parsed.documentElement.localName === 'svg', 'its root is no svg element');
  must(!/(href|src)\s*=|url\(|@import/.test(source), 'it needs other files');

  const image = document.images[file.name];
  must(image.complete && image.naturalWidth > 0, 'the browser does not draw it');
  const canvas = document.createElement('canvas');
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const counts = new Map();
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i + 3] !== 255) continue;
    const colour = pixels[i] << 16 | pixels[i + 1] << 8 | pixels[i + 2];
    counts.set(colour, (counts.get(colour) || 0) + 1);
  }
  const colours = [...counts].filter((c) => c[1] >= 20).sort((a, b) => b[1] - a[1]);
  must(colours.length >= 3, 'it has ' + colours.length + ' colours; a chart has at least 3');
  const [paper, area] = colours[0];
  const brightness = Math.round(((paper >> 16) + (paper >> 8 & 255) + (paper & 255)) / 3);
  if (source.includes('prefers-color-scheme'))
    must(dark ? brightness < 80 : brightness > 200, 'its paper has the brightness ' + brightness);
  const opaque = [...counts.values()].reduce((a, b) => a + b, 0) / (canvas.width * canvas.height);
  must(opaque > 0.95, 'the page shows through, which may have any colour');
  const drawn = 1 - area / (canvas.width * canvas.height);
  must(drawn > 0.01, 'next to nothing is drawn');

  const svg = document.importNode(parsed.documentElement, true);
  document.body.append(svg);
  const box = svg.viewBox.baseVal, slack = box.width / 100;
  for (const e of svg.querySelectorAll('text, rect, path, line, polyline')) {
    const b = e.getBBox();
    must(b.x >= box.x - slack && b.y >= box.y - slack && b.x + b.width <= box.x + box.width + slack &&
         b.y + b.height <= box.y + box.height + slack, 'beyond its edge: ' + e.outerHTML);
  }
  svg.remove();
  return `${canvas.width} by ${canvas.height}, ${Math.round(100 * drawn)} % drawn in ${colours.length} colours`;
}

// A trace: what the Trace Event Format and the viewers ask for. Spans of one thread may not even touch in part.
function lookAtTrace(file) {
  const trace = JSON.parse(text(file));
  must(['ms', 'ns'].includes(trace.displayTimeUnit), 'displayTimeUnit is ' + trace.displayTimeUnit);
  must(Array.isArray(trace.traceEvents), 'traceEvents is no array');
  const processes = new Map(), threads = new Map(), events = new Map();
  let spans = 0;
  for (const e of trace.traceEvents) {
    const fail = (why) => must(false, why + ': ' + JSON.stringify(e));
    const isTime = (n) => typeof n === 'number' && n >= 0 && Math.abs(n * 1000 - Math.round(n * 1000)) < 1e-3;
    const isId = (n) => Number.isInteger(n) && n > 0 && n < 2 ** 32;
    if (typeof e.name !== 'string' || e.name === '') fail('no name');
    if (!isId(e.pid) || !isId(e.tid)) fail('no pid, or no tid');
    if (typeof e.args !== 'object') fail('no args');
    if (e.ph === 'M') {
      const known = {process_name: [processes, e.pid], thread_name: [threads, e.tid]}[e.name];
      if (known) {
        if (typeof e.args.name !== 'string' || e.args.name === '') fail('an empty name');
        if (known[0].has(known[1])) fail('a second name');
        known[0].set(known[1], e.pid);
      } else if (!/^(process|thread)_sort_index$/.test(e.name) || !Number.isInteger(e.args.sort_index)) {
        fail('unknown metadata');
      }
      continue;
    }
    if (e.ph !== 'X' && e.ph !== 'i') fail('an unknown phase');
    if (typeof e.cat !== 'string' || !isTime(e.ts)) fail('no cat, or no ts');
    if (e.ph === 'X' && !isTime(e.dur)) fail('no dur');
    if (e.ph === 'i' && e.s !== 't') fail('no scope');
    if (threads.get(e.tid) !== e.pid) fail('a thread without a name before its events');
    const ns = Math.round(e.ts * 1000), end = ns + Math.round((e.dur || 0) * 1000), last = events.get(e.tid);
    if (last && ns < last.end) fail('overlaps ' + JSON.stringify(last.event));
    events.set(e.tid, {end, event: e});
    if (e.ph === 'X') ++spans;
  }
  for (const [tid, pid] of threads) {
    must(processes.has(pid), 'process ' + pid + ' has no name');
    must(!processes.has(tid), 'thread ' + tid + ' has the number of a process');
    must(events.has(tid), 'thread ' + tid + ' has no events');
  }
  must(spans > 0, 'no spans');
  return `${processes.size} processes, ${threads.size} threads, ${spans} spans`;
}

addEventListener('load', () => {
  const result = document.getElementById('result');
  const write = (line) => result.textContent += '\n' + line.replaceAll('\n', ' ');
  write(matchMedia('(prefers-color-scheme: dark)').matches === dark ? 'ok colours: as asked for' :
                                                                      'bad colours: not as asked for');
  for (const file of files) {
    try {
      write('ok ' + file.name + ': ' + (file.name.endsWith('.svg') ? lookAtPicture(file) : lookAtTrace(file)));
    } catch (e) {
      write('bad ' + file.name + ': ' + e.message);
    }
  }
  write('done');
});
