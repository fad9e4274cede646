"""Loads that wait for writes: those of which some bytes were written a moment ago, by a store that does not hold all of
them, so that the processor cannot hand them on. Called by tables.py; docs/design/performance.md says what they cost."""

import bisect
import collections
import os
import re
import subprocess

RECENT = 40  # stores, of those that a processor may have under way


def functions_of(program):
    """Where each begins, and its name, in order."""
    lines = subprocess.run(["nm", "-C", "--defined-only", program], capture_output=True, text=True, check=True).stdout
    found = (re.match(r"([0-9a-f]+) [tTwWuV] (.*)", line) for line in lines.splitlines())
    return sorted((int(m[1], 16), m[2]) for m in found if m)


def base_of(process):
    """Where the program lies in memory: valgrind maps it once, before it runs."""
    with open(f"/proc/{process.pid}/maps") as maps:
        return next((int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith(process.args[-2])), None)


def waits_of(program, item_filter, iterations, operations):
    """(how many an operation, function, bytes loaded, bytes stored before), of the program's own code."""
    read, write = os.pipe()
    command = ["setarch", "-R", "valgrind", "--tool=lackey", "--trace-mem=yes", f"--log-fd={write}", str(program),
               item_filter]
    process = subprocess.Popen(command, env={**os.environ, "TANDEM_BENCH_ITERATIONS": str(iterations)},
                               stdout=subprocess.DEVNULL, pass_fds=[write])
    os.close(write)
    recent = collections.deque(maxlen=RECENT)
    waits = collections.Counter()
    base = None
    at = 0
    with os.fdopen(read) as trace:
        for line in trace:
            what = line[:3]
            if what == "I  ":
                at = int(line[3:].split(",")[0], 16)
                continue
            if what not in (" L ", " S ", " M "):
                continue
            base = base or base_of(process)
            begin, size = line[3:].split(",")
            begin, size = int(begin, 16), int(size)
            if what != " S ":
                for there, length in reversed(recent):
                    if there < begin + size and begin < there + length:
                        if begin < there or there + length < begin + size:
                            waits[at, size, length] += 1
                        break
            if what != " L ":
                recent.append((begin, size))
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    functions = functions_of(program)
    begins = [begin for begin, _ in functions]
    result = collections.Counter()
    for (at, size, length), n in waits.items():
        i = bisect.bisect_right(begins, at - (base or 0)) - 1
        if 0 <= i and at - base < begins[-1] + 4096:
            result[functions[i][1], size, length] += n / (iterations * operations)
    return sorted(((n, *where) for where, n in result.items() if n >= 0.1), reverse=True)
