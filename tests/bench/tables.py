"""Runs the benchmark programs and prints the tables; called by tests/bench/run, which builds them.

usage: tables.py check ARGUMENT...    are these arguments of tests/bench/run? says what is wrong, and fails, if not
       tables.py FOLDER ARGUMENT...   the same arguments, with the folder that the programs were built in
"""

import datetime
import json
import math
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import textwrap
from collections import namedtuple
from pathlib import Path

from waits import waits_of

HERE = Path(__file__).resolve().parent
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
ROOT = HERE.parent.parent
REPETITIONS = int(os.environ.get("TANDEM_BENCH_REPETITIONS", "5"))
PATIENCE = 600  # seconds for one run of one program

# Name in the programs, what it is, how it is measured, the goal (`ratio`: at most so many times the floor; `limit`: at
# most so much; or none), the key of a note, and whose growth it is.
Item = namedtuple("Item", "name what unit ratio limit note grows", defaults=[None] * 4)
ITEMS = [
    Item("gather_immediate/10", "gather of 10 children that end at once, a child", "ns", ratio=2.0),
    Item("gather_immediate/1000", "the same of 1,000", "ns", ratio=2.0),
    Item("gather_immediate/100000", "the same of 100,000", "ns", ratio=2.0),
    Item("gather_immediate/growth", "the same of 100,000, over that of 10", "×", limit=1.5, note="growth",
         grows="gather_immediate"),
    Item("gather_yielding/10", "gather of 10 children that yield once, a child", "ns", ratio=2.0),
    Item("gather_yielding/1000", "the same of 1,000", "ns", ratio=2.0),
    Item("gather_yielding/100000", "the same of 100,000", "ns", ratio=2.0),
    Item("gather_yielding/growth", "the same of 100,000, over that of 10", "×", limit=1.5, note="growth",
         grows="gather_yielding"),
    Item("yield", "yield", "ns", ratio=2.0),
    Item("nested_await", "co_await of a task, ten deep, a level", "ns", ratio=2.0),
    Item("race/2", "race of 2, one ready, the other cancelled", "ns", ratio=2.5),
    Item("race/100", "race of 100, one ready, the others cancelled", "ns", ratio=2.5),
    Item("one_child", "one child awaited", "ns", ratio=2.5),
    Item("spawn_and_join", "one child spawned into a group, joined by its handle", "ns", ratio=2.5),
    Item("semaphore_uncontended", "permit of a semaphore taken and given back", "ns", ratio=2.0),
    Item("semaphore_contended", "100 tasks, 10 permits: taken, one yield, given back", "ns", ratio=2.5),
    Item("queue/1", "queue of capacity 1, one pushes, one pops, an item", "ns", ratio=3.0),
    Item("queue/64", "the same of capacity 64", "ns", ratio=2.2),
    Item("lease", "resource of a pool borrowed and given back", "ns", note="list"),
    Item("stream", "item through a generator and three operators", "ns", note="generator"),
    Item("scheduler/10", "job of 8 priorities in line, started, ended, of 10 in line", "ns", note="heap"),
    Item("scheduler/1000", "the same of 1,000", "ns", note="heap"),
    Item("scheduler/100000", "the same of 100,000", "ns", note="heap"),
    Item("scheduler_distinct/100000", "the same of 100,000, each with a priority of its own", "ns", note="heap"),
    Item("cache_find", "hit of a cache, looked up", "ns", ratio=1.5, note="cache"),
    Item("cache_get", "the same, awaited", "ns", ratio=1.5, note="cache"),
    Item("cache_get_string", "the same, keys of 15 characters", "ns", ratio=1.5, note="cache"),
    Item("cache_get_concurrent", "the same of a cache for several loops", "ns", limit=8, note="cache"),
    Item("rate_limiter", "request at a rate limiter", "ns", note="bucket"),
    Item("limited_call", "call through adaptive_concurrency", "ns", note="bucket"),
    Item("retried_call", "call that retry makes once", "ns", note="bucket"),
    Item("broken_call", "call through a circuit_breaker", "ns", note="bucket"),
    Item("guarded_call", "call that an error_manager guards", "ns", note="bucket"),
    Item("policy_call", "call through retry, breaker, limiter and controller in a policy", "ns", note="bucket"),
    Item("observed_by_nobody", "child that yields once, of 1,000, nobody looks", "ns", note="observed"),
    Item("observed_by_watchdog", "the same, a stall_watchdog looks", "ns", note="observed"),
    Item("observed_by_timeline", "the same, a timeline records", "ns", note="observed"),
    Item("observed_by_lints", "the same, lints look", "ns", note="observed"),
    Item("measured_call", "call that call_metrics measure", "ns", note="bucket"),
    Item("across_threads", "100,000 children to another thread's loop, a child", "ns", ratio=3.0, note="threads"),
    Item("across_threads_batched", "the same, 1,000 at a time", "ns", ratio=3.0, note="threads"),
    Item("sleeps/100000", "100,000 sleeps of 10 ms, all", "ms", ratio=1.3),
    Item("due_timer", "wait for an Asio timer that is due", "ns", ratio=1.1, note="callback"),
    Item("echo", "1-byte echo over a socket, both ends", "ns", ratio=1.1, note="callback"),
    Item("memory_event", "memory of a task that waits for an event", "bytes", limit=208, note="memory"),
    Item("memory_timer", "memory of a task that sleeps", "bytes", limit=256, note="memory"),
    Item("schedules", "10,000 shuffled schedules of 20 tasks", "ms", limit=1000),
]
OPERATIONS_PER_ROW = {"sleeps/100000": 100_000}
NOTES = {
    "cold": "These run an item once, in a new process, and all of it counts. The native programs repeat an item until "
            "it takes 0.1 s, and only the last round counts: they are warm by then.",
    "growth": "What a child costs among 100,000 over what it costs among 10. The floor grows too: its frames no longer "
              "fit into the caches. The goal is for tandem's own factor.",
    "threads": "Children that end at once, made here and run there. Each is sent by itself, `on(context, child())`, "
               "and its end comes back by itself; or 1,000 go together, in a task that gathers them, and so do their "
               "ends.",
    "observed": "The floor is the child, at which nobody can look.",
    "bucket": "The floor is a bucket that is looked at, and a task that is counted and timed.",
    "cache": "One of 1,000 entries, in no order. The floor finds it in a flat table and moves it to the front of a list, "
             "and knows neither times nor numbers.",
    "list": "The floor takes it from a list and puts it back.",
    "generator": "map, filter and take, each a generator. The floor's cannot wait.",
    "heap": "All are in line before the first starts. The floor pushes plain functions into a std::priority_queue, and "
            "calls them.",
    "callback": "The floor here is Asio with plain callbacks.",
    "memory": "Three measures, comparable within themselves only. tandem, floor, Asio: what malloc has in use for each "
              "of 100,000 tasks, its own share included. Python: growth of the resident set by each of 50,000. Go: "
              "what the runtime took from the system for each of 100,000.",
}
COLD = ("asyncio", "uvloop", "Go")
ESSENTIAL = ("tandem", "floor")


class Broken(Exception):
    """A program that cannot be run or gives nothing usable; says how."""


def run(command, **more):
    try:
        p = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, **more)
    except OSError as e:
        raise Broken(f"{command[0]} cannot be run: {e.strerror}") from e
    except subprocess.TimeoutExpired as e:
        raise Broken(f"not done after {PATIENCE} s") from e
    if p.returncode != 0:
        how = f"exit status {p.returncode}" if p.returncode > 0 else signal.Signals(-p.returncode).name
        words = p.stderr.strip().splitlines()
        raise Broken(f"{how}, {words[-1].strip()}" if words else how)
    return p.stdout


def first_line(command):
    try:
        return run(command).splitlines()[0]
    except (Broken, IndexError):
        return None


class Build:
    """A folder with the programs, and what CMake noted there: the compiler, its options, where the headers are."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        noted = (self.folder / "bench" / "compiler.txt").read_text().splitlines()
        self.compiler, self.options, *flags = noted
        self.include_flags = [f for f in flags if f]

    def program(self, name):
        return self.folder / "bench" / name

    def asio_version(self):
        macro = run([self.compiler, "-std=c++20", *self.include_flags, "-E", "-x", "c++", "-"],
                    input="#include <asio/version.hpp>\nASIO_VERSION\n")
        number = int(macro.split()[-1])
        return f"{number // 100000}.{number // 100 % 1000}.{number % 100}"

    def setting(self):
        # g++ gives the name that it was called by.
        compiler = re.sub(r"^\S+ (?=\()", "g++ ", first_line([self.compiler, "--version"]) or self.compiler)
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        return {
            "date": datetime.date.today().isoformat(),
            "compiler": f"{compiler}, {self.options}",
            "Asio": self.asio_version(),
            "system": f"{first_line(['sh', '-c', '. /etc/os-release; echo $PRETTY_NAME'])}, {platform.machine()}",
            "processor": f"{os.cpu_count()} × {cpu[1] if cpu else platform.processor()}",
        }

    def write_json(self, name, what):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(what, indent=1, ensure_ascii=False) + "\n")
        print(f"written: {path.relative_to(ROOT)}\n")


def filled(text):
    return textwrap.fill(text, 120, break_on_hyphens=False)


def said(setting):
    return (f"{setting['compiler']}, Asio {setting['Asio']}, {setting['system']}, {setting['processor']}"
            + "".join(f", {v}" for v in setting.get("versions", {}).values() if v))


def print_table(head, rows):
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    for n, r in enumerate([head, *rows]):
        print("| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|")


def number(x):
    return "–" if x is None else f"{x:,.2f}" if x < 10 else f"{x:,.1f}" if x < 100 else f"{x:,.0f}"


# --- Times: programs --------------------------------------------------------------------------------------------------
# name -> function(item) that gives seconds an operation, or bytes, or None for an item that the program does not have


def native(path):
    def measure(item):
        out = run([path, f"--benchmark_filter=^{item}(/iterations:1)?(/real_time)?$", "--benchmark_format=json",
                   "--benchmark_min_time=0.1"])
        found = json.loads(out)["benchmarks"] if out.strip() else []
        if not found:
            return None
        b = found[0]
        if b.get("error_occurred"):
            raise Broken(b.get("error_message", "it reports an error"))
        if "bytes" in b:
            return b["bytes"]
        if "items_per_second" in b:
            return 1 / b["items_per_second"]
        return b["real_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}[b["time_unit"]]
    return measure


def script(*command):
    return lambda item: json.loads(run([*command, item]))


def never(why):
    def measure(item):
        raise Broken(why)
    return measure


def find_programs(build):
    """Programs and what to call them, those that are not installed left out."""
    programs = {p: native(build.program(p)) for p in ("tandem", "floor", "asio")}
    versions = {}
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    items = HERE / "peers" / "asyncio_items.py"
    programs["asyncio"] = script(python, items, "asyncio")
    versions["asyncio"] = first_line([python, "--version"])
    uvloop = first_line([python, "-c", "import uvloop; print('uvloop', uvloop.__version__)"])
    if uvloop:
        programs["uvloop"] = script(python, items, "uvloop")
        versions["uvloop"] = uvloop
    if shutil.which("go"):
        program = build.program("go_items")
        try:
            run(["go", "build", "-o", program, HERE / "peers" / "items.go"],
                env={**os.environ, "GOCACHE": str(build.folder / "go")})
            programs["Go"] = script(program)
        except Broken as e:
            programs["Go"] = never(f"peers/items.go does not build: {e}")
        versions["Go"] = (first_line(["go", "version"]) or "Go").removeprefix("go version ")
    return programs, versions


def measured(measure, item):
    """In the unit of the item, or None."""
    try:
        value = measure(item.name)
    except (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError) as e:  # what it printed is no result
        raise Broken(f"what it prints cannot be read: {type(e).__name__}: {e}") from e
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise Broken(f"it measures {value!r}")
    if item.unit == "bytes":
        return value
    return value * {"ns": 1e9, "ms": 1e3}[item.unit] * OPERATIONS_PER_ROW.get(item.name, 1)


# --- Times: the table -------------------------------------------------------------------------------------------------


def chosen_items(wanted):
    """By their names, or by what is before the slash. Of growth, only that of items that are there."""
    chosen = [i for i in ITEMS if not wanted or i.name in wanted or i.name.split("/")[0] in wanted]
    names = {i.name for i in chosen}
    return [i for i in chosen if not i.grows or {f"{i.grows}/10", f"{i.grows}/100000"} <= names]


def measure_all(programs, items):
    """Item and program -> values; and item and program -> what is wrong with it."""
    seen = {(i.name, p): [] for i in items for p in programs}
    broken = {}
    for n in range(REPETITIONS):
        for item in (i for i in items if not i.grows):
            for p, measure in programs.items():
                if (item.name, p) in broken:
                    continue
                try:
                    value = measured(measure, item)
                except Broken as e:
                    if p in ESSENTIAL:
                        sys.exit(f"{p} is broken, at {item.name}: {e}")
                    broken[item.name, p] = str(e)
                    seen[item.name, p].clear()
                    continue
                if value is not None:
                    seen[item.name, p].append(value)
        print(f"repetition {n + 1} of {REPETITIONS}", file=sys.stderr)
    for item in (i for i in items if i.grows):
        for p in programs:
            few, many = seen[f"{item.grows}/10", p], seen[f"{item.grows}/100000", p]
            seen[item.name, p] = [m / f for f, m in zip(few, many)]
    return seen, broken


def row_of(item, values):
    """What there is to say about an item, for the tables and the JSON."""
    median = {p: statistics.median(v) if v else None for p, v in values.items()}
    ratios = sorted(t / f for t, f in zip(values["tandem"], values["floor"]))  # of the same repetition
    ratio = statistics.median(ratios) if ratios else None
    own = median["tandem"] if item.limit else ratio
    return {"item": item.name, "what": item.what, "unit": item.unit, "note": item.note,
            "goal": f"≤ {item.ratio} ×" if item.ratio else f"≤ {item.limit:,}" if item.limit else None,
            "reached": None if own is None else own <= (item.ratio or item.limit or math.inf),
            "ratio": ratio, "ratio_range": [ratios[0], ratios[-1]] if ratios else None,
            "median": median, "minimum": {p: min(v) if v else None for p, v in values.items()}, "all": values}


def remarks_on(rows, broken):
    """Sentences for below the table."""
    for row in rows:
        if row["reached"] is None:
            lacking = [p for p in ESSENTIAL if row["median"][p] is None]
            yield f"{row['item']}: {' and '.join(lacking)} {'do' if len(lacking) > 1 else 'does'} not have it."
        floor = row["median"]["floor"]
        if row["note"] == "growth" and floor is not None and floor > 1.5:
            yield (f"{row['item'].split('/')[0]}: the floor itself exceeds 1.5 on this machine, a child costs it "
                   f"{floor:.2f} times as much among 100,000 as among 10.")
    by_cause = {}
    for (item, p), why in broken.items():
        by_cause.setdefault((p, why), []).append(item)
    for (p, why), items in by_cause.items():
        yield f"{p} is broken, at {', '.join(items)}: {why}."


def table_of(run, with_ranges):
    """Head, rows and notes."""
    peers = [p for p in run["rows"][0]["median"] if p not in ESSENTIAL]
    used = (["cold"] if any(p in COLD for p in peers) else []) + [r["note"] for r in run["rows"] if r["note"]]
    marks = {key: str(n).translate(SUPERSCRIPT) for n, key in enumerate(dict.fromkeys(used), 1)}

    def marked(text, key):
        return f"{text} {marks[key]}" if key else text

    rows = []
    for r in run["rows"]:
        ratio = number(r["ratio"])
        if with_ranges and r["ratio"] is not None:
            ratio += f" ({number(r['ratio_range'][0])}–{number(r['ratio_range'][1])})"
        rows.append([marked(r["what"], r["note"]), r["unit"], *(number(r["median"][p]) for p in ESSENTIAL), ratio,
                     r["goal"] or "–", {True: "✓", False: "✗", None: "–"}[r["reached"] if r["goal"] else None],
                     *(number(r["median"][p]) for p in peers)])
    names = {"asio": "Asio"}
    head = ["", "unit", "tandem", "floor", "ratio", "goal", "reached",
            *(marked(names.get(p, p), "cold" if p in COLD else None) for p in peers)]
    return head, rows, [f"{mark} {NOTES[key]}" for key, mark in marks.items()]


def times(build, wanted):
    programs, versions = find_programs(build)
    items = chosen_items(wanted)
    seen, broken = measure_all(programs, items)
    rows = [row_of(i, {p: seen[i.name, p] for p in programs}) for i in items]
    result = {**build.setting(), "versions": versions, "repetitions": REPETITIONS, "rows": rows,
              "remarks": list(remarks_on(rows, broken))}
    head, lines, notes = table_of(result, with_ranges=True)
    print(filled(f"{result['date']}, {said(result)}"))
    print(f"medians of {REPETITIONS} interleaved repetitions, wall time; the ratio is tandem to floor, its range in "
          "brackets\n")
    print_table(head, lines)
    print()
    for sentence in [*notes, *result["remarks"]]:
        print(filled(sentence))
    build.write_json("times_of_some" if wanted else "times", result)
    return all(r["reached"] for r in rows)


def readme(build):
    """What README.md says about a run, as it stands there."""
    path = build.folder / "times.json"
    if not path.exists():
        sys.exit(f"there is no {path.relative_to(ROOT)}: tests/bench/run times writes it")
    result = json.loads(path.read_text())
    head, rows, notes = table_of(result, with_ranges=False)
    print(filled(f"Medians of {result['repetitions']} interleaved repetitions of `tests/bench/run times` on "
                 f"{result['date']}, wall time: {said(result)}."))
    print()
    print("| " + " | ".join(head).strip() + " |")
    print("|---|---|" + "--:|" * (len(head) - 2))
    for r in rows:
        print("| " + " | ".join(r) + " |")
    for sentence in [*notes, *result["remarks"]]:
        print("\n" + filled(sentence))


# --- Instructions -----------------------------------------------------------------------------------------------------

# Item, iterations, operations an iteration.
COUNTED = [
    ("gather_immediate/10", 100, 10),
    ("gather_immediate/1000", 5, 1_000),
    ("gather_yielding/10", 100, 10),
    ("gather_yielding/1000", 5, 1_000),
    ("yield", 5, 1_000),
    ("nested_await", 100, 10),
    ("race/2", 100, 1),
    ("race/100", 20, 1),
    ("one_child", 5, 1_000),
    ("spawn_and_join", 5, 1_000),
    ("semaphore_uncontended", 5, 1_000),
    ("semaphore_contended", 2, 10_000),
    ("queue/1", 2, 10_000),
    ("queue/64", 2, 10_000),
    ("lease", 5, 1_000),
    ("stream", 5, 1_000),
    ("scheduler/10", 100, 10),
    ("scheduler/1000", 5, 1_000),
    ("cache_find", 5, 1_000),
    ("cache_get", 5, 1_000),
    ("cache_get_string", 5, 1_000),
    ("cache_get_concurrent", 5, 1_000),
    ("rate_limiter", 5, 1_000),
    ("limited_call", 5, 1_000),
    ("retried_call", 5, 1_000),
    ("broken_call", 5, 1_000),
    ("guarded_call", 5, 1_000),
    ("policy_call", 5, 1_000),
    ("observed_by_nobody", 5, 10_000),
    ("measured_call", 5, 1_000),
    ("due_timer", 2, 1_000),
    ("echo", 2, 1_000),
]
COUNTS = HERE / "instructions.txt"
MARGIN = 5  # percent by which a count may differ from the one that is noted


def only(item):
    return f"--benchmark_filter=^{item}(/iterations:[0-9]+)?(/real_time)?$"


def instructions_of(build, program, item, iterations):
    """All that the process executes; what two runs of different length differ by is the item's."""
    log = build.folder / "callgrind.log"
    run(["setarch", "-R", "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log}",
         build.program(program), only(item)],
        env={**os.environ, "TANDEM_BENCH_ITERATIONS": str(iterations)})
    return int(re.search(r"Collected : (\d+)", log.read_text())[1])


def read_counts():
    """For what they were counted; item -> counts of tandem and floor."""
    if not COUNTS.exists():
        return None, {}
    lines = COUNTS.read_text().splitlines()
    noted = {}
    for line in lines:
        if m := re.match(r"(\S+) +(\d+) +(\d+)", line):
            noted[m[1]] = {"tandem": float(m[2]), "floor": float(m[3])}
    return lines[0].removeprefix("# "), noted


def differences(counted, noted):
    """Sentences about counts that are not what is noted. A gain counts as well: as long as it is not noted, a later
    loss of as much goes unseen."""
    change = {(item, p): (count[p] / noted[item][p] - 1) * 100
              for item, count in counted.items() if item in noted for p in ESSENTIAL}

    def those(p, differs):
        return ", ".join(f"{item} ({c:+.1f} %)" for (item, q), c in change.items() if p == q and differs(c))

    if worse := those("tandem", lambda c: c > MARGIN):
        yield f"Over {MARGIN} % more instructions than noted: {worse}."
    if better := those("tandem", lambda c: c < -MARGIN):
        yield f"Over {MARGIN} % fewer instructions than noted, a gain that is not noted yet: {better}."
    if moved := those("floor", lambda c: abs(c) > MARGIN):
        yield f"The floor has moved by over {MARGIN} %: {moved}."
    if new := ", ".join(item for item in counted if item not in noted):
        yield f"Not noted yet: {new}."


def count_instructions(build, update):
    s = build.setting()
    here = f"{s['compiler']}, Asio {s['Asio']}, {s['system']}"
    made_with, noted = read_counts()
    if made_with != here:
        noted = {}
    counted = {}
    for item, iterations, operations in COUNTED:
        try:
            counted[item] = {p: (instructions_of(build, p, item, 2 * iterations) -
                                 instructions_of(build, p, item, iterations)) / (iterations * operations)
                             for p in ESSENTIAL}
        except Broken as e:
            sys.exit(f"{item} cannot be counted: {e}")
        if min(counted[item].values()) <= 0:
            sys.exit(f"{item}: nothing was counted; is it still an item of both programs?")

    def change(item):
        return f"{(counted[item]['tandem'] / noted[item]['tandem'] - 1) * 100:+.1f} %" if item in noted else "–"

    print(filled(f"{s['date']}, {said(s)}"))
    print("instructions an operation; the change is to tests/bench/instructions.txt\n")
    print_table(["", "tandem", "floor", "ratio", "change"],
                [[item, f"{c['tandem']:.0f}", f"{c['floor']:.0f}", f"{c['tandem'] / c['floor']:.2f}", change(item)]
                 for item, c in counted.items()])
    build.write_json("instructions", {**s, "items": [{"item": item, **c, "noted": noted.get(item)}
                                                     for item, c in counted.items()]})
    if update:
        lines = [f"{item:26}{c['tandem']:8.0f}{c['floor']:8.0f}" for item, c in counted.items()]
        COUNTS.write_text(f"# {here}\n# item, instructions an operation: tandem, floor\n" + "\n".join(lines) + "\n")
        print(f"written: {COUNTS.relative_to(ROOT)}")
        return True
    if made_with != here:
        sentences = [f"tests/bench/instructions.txt is for {made_with}, and this is {here}: nothing to compare with."]
    else:
        sentences = list(differences(counted, noted))
    for sentence in sentences:
        print(filled(sentence))
    if sentences:
        print("If this is meant: tests/bench/run instructions --update, and commit tests/bench/instructions.txt.\n")
    return not sentences


def print_waits(build, wanted):
    rows = []
    for item, iterations, operations in COUNTED:
        if item in ("due_timer", "echo") or (wanted and item not in wanted):  # those wait for the system
            continue
        try:
            found = waits_of(build.program("tandem"), only(item), iterations, operations)
        except subprocess.CalledProcessError as e:
            sys.exit(f"{item} cannot be followed: {e}")
        rows.append([item, f"{sum(n for n, *_ in found):.1f}", "", "", ""])
        rows += [["", f"{n:.1f}", str(loaded), str(stored), where[:70]] for n, where, loaded, stored in found]
    print("loads that wait for writes, an operation; the bytes of the load and of a store before it; where\n")
    print_table(["", "waits", "load", "store", "function"], rows)
    return True


# --- Compiling --------------------------------------------------------------------------------------------------------


def compile_command(build):
    return [build.compiler, "-std=c++20", "-O0", f"-I{ROOT}/include", *build.include_flags]


def compile_cost(build, source):
    """Seconds of processor time and peak megabytes."""
    process = subprocess.Popen([*compile_command(build), "-c", source, "-o", "/dev/null"])
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise Broken(f"{source.name} does not compile; the compiler's words are above")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def least_cost(build, source, repetitions):
    costs = [compile_cost(build, source) for _ in range(repetitions)]
    return min(c[0] for c in costs), min(c[1] for c in costs)


def code_lines(path):
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("//"))


def closure(build, header):
    """Our own files that a header brings along, itself included."""
    out = run([*compile_command(build), "-MM", header])
    return sorted({Path(f).resolve() for f in out.replace("\\\n", " ").split() if "/include/tandem/" in f})


def compiling(build):
    s = build.setting()
    hellos, remarks = {}, []
    for p in ("tandem", "floor", "asio"):
        try:
            hellos[p] = least_cost(build, HERE / "compile" / f"{p}.cpp", REPETITIONS)
        except Broken as e:
            if p in ESSENTIAL:
                sys.exit(f"tests/bench/compile/{e}")
            hellos[p] = None
            remarks.append(f"tests/bench/compile/{e}.")
    seconds, memory = (hellos["tandem"][i] / hellos["floor"][i] for i in range(2))
    reached = seconds <= 1.3 and memory <= 1.3

    headers = []
    lone = build.folder / "lone_header.cpp"
    for header in sorted((ROOT / "include" / "tandem").glob("*.hpp")):
        lone.write_text(f"#include <tandem/{header.name}>\n")
        try:
            cost = least_cost(build, lone, 3)
            files = closure(build, header)
        except Broken:
            sys.exit(f"include/tandem/{header.name} does not compile alone; the compiler's words are above")
        headers.append([header.name, f"{cost[0]:.2f}", f"{cost[1]:.0f}", str(code_lines(header)), str(len(files)),
                        str(sum(code_lines(f) for f in files))])

    def cells(cost):
        return [f"{cost[0]:.2f}", f"{cost[1]:.0f}"] if cost else ["–", "–"]

    print(filled(f"{s['date']}, {said(s)}"))
    print(f"-O0, processor time; least of {REPETITIONS}\n")
    print_table(["a hello", "seconds", "MB"],
                [["that gathers and sleeps: tandem", *cells(hellos["tandem"])],
                 ["the same with Asio's coroutines", *cells(hellos["asio"])],
                 ["floor: posts a lambda, waits for a timer", *cells(hellos["floor"])]])
    for sentence in remarks:
        print(sentence)
    print(f"tandem to floor: {seconds:.2f} × the time, {memory:.2f} × the memory; goal ≤ 1.3 × "
          f"{'✓' if reached else '✗'}\n")
    print_table(["header", "seconds", "MB", "code lines", "files with its needs", "their code lines"], headers)
    build.write_json("compile", {**s, "hello": hellos, "headers": headers, "remarks": remarks})
    return reached


# --- The command ------------------------------------------------------------------------------------------------------


def check(arguments):
    what, *more = arguments or ["all"]
    if what == "times":
        known = {i.name for i in ITEMS} | {i.name.split("/")[0] for i in ITEMS}
        if unknown := [w for w in more if w not in known]:
            return f"no such item: {', '.join(unknown)}; there are {', '.join(i.name for i in ITEMS)}"
        if not chosen_items(more):
            return f"{', '.join(more)} is worked out from its family: name that, {more[0].split('/')[0]}"
    elif what == "instructions":
        if more not in ([], ["--update"]):
            return f"instructions takes --update or nothing, not {' '.join(more)}"
    elif what == "waits":
        if unknown := [w for w in more if w not in [item for item, *_ in COUNTED]]:
            return f"no such item: {', '.join(unknown)}; there are {', '.join(item for item, *_ in COUNTED)}"
    elif what not in ("all", "compile", "readme"):
        return f"no such table: {what}"
    elif more:
        return f"{what} takes no arguments, and there is {' '.join(more)}"
    return None


def main():
    where, *arguments = sys.argv[1:]
    if wrong := check(arguments):
        sys.exit(f"tests/bench/run: {wrong}")
    if where == "check":
        return
    what, *more = arguments or ["all"]
    try:
        build = Build(where)
        if what == "readme":
            return readme(build)
        if what == "times":
            reached = times(build, more)
        elif what == "instructions":
            reached = count_instructions(build, "--update" in more)
        elif what == "waits":
            reached = print_waits(build, more)
        elif what == "compile":
            reached = compiling(build)
        else:
            reached = all([times(build, []), count_instructions(build, False), compiling(build)])
    except Broken as e:
        sys.exit(f"tests/bench/run: {e}")
    sys.exit(not reached)


main()
