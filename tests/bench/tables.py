"""Runs the benchmark programs and prints the tables; called by tests/bench/run, which builds them."""

import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "bench"
CXX = os.environ.get("CXX", "g++")
REPETITIONS = int(os.environ.get("TANDEM_BENCH_REPETITIONS", "5"))
COMPILE = [CXX, "-std=c++20", "-O0", f"-I{ROOT}/include"]

# Item of the programs, what it is, how it is measured, and the goal: a ratio to the floor, or a number of its own.
ITEMS = [
    ("gather_immediate/10", "gather of 10 children that end at once, a child", "ns", 2.0),
    ("gather_immediate/1000", "the same of 1,000", "ns", 2.0),
    ("gather_immediate/100000", "the same of 100,000", "ns", 2.0),
    ("gather_yielding/10", "gather of 10 children that yield once, a child", "ns", 2.0),
    ("gather_yielding/1000", "the same of 1,000", "ns", 2.0),
    ("gather_yielding/100000", "the same of 100,000", "ns", 2.0),
    ("yield", "yield", "ns", 2.0),
    ("nested_await", "co_await of a task, ten deep, a level", "ns", 2.0),
    ("race/2", "race of 2, one ready, the other cancelled", "ns", 2.5),
    ("race/100", "race of 100, one ready, the others cancelled", "ns", 2.5),
    ("one_child", "one child awaited", "ns", 2.5),
    ("spawn_and_join", "one child spawned into a group, joined by its handle", "ns", 2.5),
    ("sleeps/100000", "100,000 sleeps of 10 ms, all", "ms", 1.3),
    ("due_timer", "wait for an Asio timer that is due", "ns", 1.1),
    ("echo", "1-byte echo over a socket, both ends", "ns", 1.1),
    ("memory_event", "memory of a task that waits for an event", "bytes", "≤ 208"),
    ("memory_timer", "memory of a task that sleeps", "bytes", "≤ 256"),
    ("schedules", "10,000 shuffled schedules of 20 tasks", "ms", "≤ 1000"),
]
OPERATIONS_PER_ROW = {"sleeps/100000": 100_000}


def run(command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def first_line(command):
    try:
        return run(command).splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def in_unit(seconds_or_bytes, item, unit):
    if unit == "bytes":
        return seconds_or_bytes
    return seconds_or_bytes * {"ns": 1e9, "ms": 1e3}[unit] * OPERATIONS_PER_ROW.get(item, 1)


# --- Programs: name -> function(item) that gives seconds an operation (or bytes), or None ------------------------------


def native(program):
    def measure(item):
        out = run([BUILD / "bench" / program, f"--benchmark_filter=^{item}(/iterations:1)?(/real_time)?$",
                   "--benchmark_format=json", "--benchmark_min_time=0.1"])
        found = json.loads(out)["benchmarks"] if out.strip() else []
        if not found:
            return None
        b = found[0]
        if "bytes" in b:
            return b["bytes"]
        if "items_per_second" in b:
            return 1 / b["items_per_second"]
        return b["real_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}[b["time_unit"]]
    return measure


def script(*command):
    return lambda item: json.loads(run([*command, item]))


def find_peers():
    """Programs and what to call them, those that are not installed left out."""
    versions = {"asio": None}
    programs = {"floor": native("floor"), "tandem": native("tandem"), "asio": native("asio")}
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    items = HERE / "peers" / "asyncio_items.py"
    programs["asyncio"] = script(python, items, "asyncio")
    versions["asyncio"] = first_line([python, "--version"])
    uvloop = first_line([python, "-c", "import uvloop; print('uvloop', uvloop.__version__)"])
    if uvloop:
        programs["uvloop"] = script(python, items, "uvloop")
        versions["uvloop"] = uvloop
    if shutil.which("go"):
        program = BUILD / "bench" / "go_items"
        run(["go", "build", "-o", program, HERE / "peers" / "items.go"], env={**os.environ, "GOCACHE": str(BUILD / "go")})
        programs["Go"] = script(program)
        versions["Go"] = first_line(["go", "version"])
    return programs, versions


def asio_version():
    macro = run([CXX, "-std=c++20", "-E", "-x", "c++", "-"], input="#include <asio/version.hpp>\nASIO_VERSION\n")
    number = int(macro.split()[-1])
    return f"{number // 100000}.{number // 100 % 1000}.{number % 100}"


def setting():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.date.today().isoformat(),
        "compiler": first_line([CXX, "--version"]) + ", -O2 -DNDEBUG",
        "Asio": asio_version(),
        "system": f"{first_line(['sh', '-c', '. /etc/os-release; echo $PRETTY_NAME'])}, {platform.machine()}",
        "processor": f"{os.cpu_count()} × {cpu[1] if cpu else platform.processor()}",
    }


def print_setting(s):
    print(", ".join(str(v) for v in s.values()))


def write_json(name, what):
    path = BUILD / f"{name}.json"
    path.write_text(json.dumps(what, indent=1, ensure_ascii=False) + "\n")
    print(f"written: {path.relative_to(ROOT)}\n")


def print_table(head, rows):
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    for n, r in enumerate([head, *rows]):
        print("| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|")


def number(x):
    return "–" if x is None else f"{x:,.2f}" if x < 10 else f"{x:,.1f}" if x < 100 else f"{x:,.0f}"


# --- Times -------------------------------------------------------------------------------------------------------------


def verdict(goal, ratio, own):
    if isinstance(goal, str):
        return goal, own <= float(goal.lstrip("≤ "))
    return f"≤ {goal} ×", ratio <= goal


def times(wanted):
    programs, versions = find_peers()
    unknown = [w for w in wanted if w not in [i[0] for i in ITEMS]]
    if unknown:
        sys.exit(f"no such item: {', '.join(unknown)}; there are {', '.join(i[0] for i in ITEMS)}")
    chosen = [i for i in ITEMS if not wanted or i[0] in wanted]
    seen = {(item, p): [] for item, *_ in chosen for p in programs}
    for n in range(REPETITIONS):
        for item, _, unit, _ in chosen:
            for p, measure in programs.items():
                value = measure(item)
                if value is not None:
                    seen[item, p].append(in_unit(value, item, unit))
        print(f"repetition {n + 1} of {REPETITIONS}", file=sys.stderr)

    rows, result, all_reached = [], [], True
    for item, what, unit, goal in chosen:
        v = {p: seen[item, p] for p in programs}
        median = {p: statistics.median(v[p]) if v[p] else None for p in programs}
        ratios = sorted(t / f for t, f in zip(v["tandem"], v["floor"]))  # of the same repetition
        ratio = statistics.median(ratios) if ratios else None
        text, reached = verdict(goal, ratio, median["tandem"])
        all_reached &= reached
        spread = f"{ratio:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})" if ratios else "–"
        rows.append([what, unit, number(median["tandem"]), number(median["floor"]), spread,
                     text, "✓" if reached else "✗", *(number(median[p]) for p in list(programs)[2:])])
        result.append({"item": item, "what": what, "unit": unit, "goal": text, "reached": reached, "ratio": ratio,
                       "median": median, "minimum": {p: min(v[p]) if v[p] else None for p in programs}, "all": v})
    s = setting()
    print_setting({**s, **{k: x for k, x in versions.items() if x}})
    print(f"medians of {REPETITIONS} interleaved repetitions; the ratio is tandem to floor, its range in brackets\n")
    print_table(["", "unit", "tandem", "floor", "ratio", "goal", "", *list(programs)[2:]], rows)
    write_json("times", {**s, "versions": versions, "repetitions": REPETITIONS, "items": result})
    return all_reached


# --- Instructions ------------------------------------------------------------------------------------------------------

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
    ("due_timer", 2, 1_000),
    ("echo", 2, 1_000),
]
COUNTS = HERE / "instructions.txt"


def instructions_of(program, item, iterations):
    """All that the process executes; what two runs of different length differ by is the item's."""
    log = BUILD / "callgrind.log"
    run(["setarch", "-R", "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log}",
         BUILD / "bench" / program, f"--benchmark_filter=^{item}(/iterations:[0-9]+)?(/real_time)?$"],
        env={**os.environ, "TANDEM_BENCH_ITERATIONS": str(iterations)})
    return int(re.search(r"Collected : (\d+)", log.read_text())[1])


def read_counts():
    if not COUNTS.exists():
        return None, {}
    lines = COUNTS.read_text().splitlines()
    old = {}
    for line in lines:
        if m := re.match(r"(\S+) +(\d+) +(\d+)", line):
            old[m[1]] = float(m[2])
    return lines[0].removeprefix("# "), old


def count_instructions(update):
    s = setting()
    here = f"{s['compiler']}, Asio {s['Asio']}, {s['system']}"
    made_with, old = read_counts()
    if made_with != here and not update:
        sys.exit(f"tests/bench/instructions.txt is for {made_with}, and this is {here}: nothing to compare with; "
                 "--update writes it anew")
    if made_with != here:
        old = {}
    rows, lines, worse, result = [], [], [], []
    for item, iterations, operations in COUNTED:
        count = {p: (instructions_of(p, item, 2 * iterations) - instructions_of(p, item, iterations)) /
                    (iterations * operations) for p in ("tandem", "floor")}
        if min(count.values()) <= 0:
            sys.exit(f"{item}: nothing was counted; is it still an item of both programs?")
        before = old.get(item)
        change = (count["tandem"] / before - 1) * 100 if before else None
        if change is not None and change > 5:
            worse.append(item)
        rows.append([item, f"{count['tandem']:.0f}", f"{count['floor']:.0f}", f"{count['tandem'] / count['floor']:.2f}",
                     "–" if change is None else f"{change:+.1f} %"])
        lines.append(f"{item:26}{count['tandem']:8.0f}{count['floor']:8.0f}")
        result.append({"item": item, **count, "before": before})
    print_setting(s)
    print("instructions an operation; the change is to tests/bench/instructions.txt\n")
    print_table(["", "tandem", "floor", "ratio", "change"], rows)
    write_json("instructions", {**s, "items": result})
    if update:
        COUNTS.write_text(f"# {here}\n# item, instructions an operation: tandem, floor\n" + "\n".join(lines) + "\n")
        print(f"written: {COUNTS.relative_to(ROOT)}")
        return True
    if worse:
        print(f"over 5 % worse than tests/bench/instructions.txt: {', '.join(worse)}")
    return not worse


# --- Compiling ---------------------------------------------------------------------------------------------------------


def compile_cost(source, *more):
    """Seconds of processor time and peak megabytes."""
    process = subprocess.Popen([*COMPILE, *more, "-c", source, "-o", "/dev/null"])
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{source} does not compile")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def best(costs):
    return min(c[0] for c in costs), min(c[1] for c in costs)


def code_lines(path):
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("//"))


def closure(header):
    """Our own files that a header brings along, itself included."""
    out = run([*COMPILE, "-MM", header])
    return sorted({Path(f).resolve() for f in out.replace("\\\n", " ").split() if "/include/tandem/" in f})


def compiling():
    s = setting()
    hellos = {p: best([compile_cost(HERE / "compile" / f"{p}.cpp") for _ in range(REPETITIONS)])
              for p in ("tandem", "floor", "asio")}
    seconds = hellos["tandem"][0] / hellos["floor"][0]
    memory = hellos["tandem"][1] / hellos["floor"][1]
    reached = seconds <= 1.3 and memory <= 1.3
    headers = []
    empty = BUILD / "empty.cpp"
    for header in sorted((ROOT / "include" / "tandem").glob("*.hpp")):
        empty.write_text(f"#include <tandem/{header.name}>\n")
        cost = best([compile_cost(empty) for _ in range(3)])
        files = closure(header)
        headers.append([header.name, f"{cost[0]:.2f}", f"{cost[1]:.0f}", str(code_lines(header)), str(len(files)),
                        str(sum(code_lines(f) for f in files))])
    print_setting(s)
    print(f"-O0, processor time; least of {REPETITIONS}\n")
    print_table(["a hello", "seconds", "MB"],
                [["that gathers and sleeps: tandem", f"{hellos['tandem'][0]:.2f}", f"{hellos['tandem'][1]:.0f}"],
                 ["the same with Asio's coroutines", f"{hellos['asio'][0]:.2f}", f"{hellos['asio'][1]:.0f}"],
                 ["floor: posts a lambda, waits for a timer", f"{hellos['floor'][0]:.2f}", f"{hellos['floor'][1]:.0f}"]])
    print(f"tandem to floor: {seconds:.2f} × the time, {memory:.2f} × the memory; goal ≤ 1.3 × {'✓' if reached else '✗'}\n")
    print_table(["header", "seconds", "MB", "code lines", "files with its needs", "their code lines"], headers)
    write_json("compile", {**s, "hello": hellos, "headers": headers})
    return reached


def main():
    what, *more = sys.argv[1:] or ["all"]
    if what == "instructions":
        sys.exit(not count_instructions("--update" in more))
    if what == "times":
        sys.exit(not times(more))
    if what == "compile":
        sys.exit(not compiling())
    sys.exit(not all([times([]), count_instructions(False), compiling()]))


main()
