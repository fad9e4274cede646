"""The same work with Python's asyncio; with the argument uvloop, on that event loop.

Prints the time of one operation in seconds (memory_*: bytes), or null for an item that it does not have.
usage: asyncio_items.py asyncio|uvloop ITEM
"""

import asyncio
import gc
import json
import sys
import threading
import time


async def immediate(i):
    return i


async def yielding(i):
    await asyncio.sleep(0)
    return i


async def sleeps(i):
    await asyncio.sleep(0.01)
    return i


async def deep(levels):
    return 1 if levels == 1 else 1 + await deep(levels - 1)


async def gathers(child, n):
    rounds = max(1, 20_000 // n)
    begin = time.perf_counter()
    for _ in range(rounds):
        await asyncio.gather(*(child(i) for i in range(n)))
    return (time.perf_counter() - begin) / (rounds * n)


async def yields():
    n = 50_000
    begin = time.perf_counter()
    for _ in range(n):
        await asyncio.sleep(0)
    return (time.perf_counter() - begin) / n


async def nested():
    rounds, levels = 5_000, 10
    begin = time.perf_counter()
    for _ in range(rounds):
        await deep(levels)
    return (time.perf_counter() - begin) / (rounds * levels)


async def one_awaited():
    n = 50_000
    begin = time.perf_counter()
    for i in range(n):
        await immediate(i)
    return (time.perf_counter() - begin) / n


async def one_child():
    n = 20_000
    begin = time.perf_counter()
    for i in range(n):
        await asyncio.create_task(immediate(i))
    return (time.perf_counter() - begin) / n


async def race(n):
    never = asyncio.Event()
    rounds = max(1, 5_000 // n)
    begin = time.perf_counter()
    for _ in range(rounds):
        arms = [asyncio.create_task(never.wait()) for _ in range(n - 1)] + [asyncio.create_task(immediate(1))]
        done, pending = await asyncio.wait(arms, return_when=asyncio.FIRST_COMPLETED)
        for t in pending:
            t.cancel()
        await asyncio.wait(arms)
    return (time.perf_counter() - begin) / rounds


async def semaphore_uncontended():
    one = asyncio.Semaphore(1)
    n = 50_000
    begin = time.perf_counter()
    for _ in range(n):
        async with one:
            pass
    return (time.perf_counter() - begin) / n


async def lease():
    idle = asyncio.LifoQueue()
    idle.put_nowait(object())
    n = 50_000
    begin = time.perf_counter()
    for _ in range(n):
        resource = await idle.get()
        idle.put_nowait(resource)
    return (time.perf_counter() - begin) / n


async def stream():
    n = 20_000

    async def numbers():
        for i in range(n):
            yield i

    async def mapped(source):
        async for i in source:
            yield i + 1

    async def filtered(source):
        async for i in source:
            if i >= 0:
                yield i

    async def taken(source):
        left = n
        async for i in source:
            yield i
            left -= 1
            if left == 0:
                break

    begin = time.perf_counter()
    total = 0
    async for i in taken(filtered(mapped(numbers()))):
        total += i
    return (time.perf_counter() - begin) / n


async def semaphore_contended():
    permits = asyncio.Semaphore(10)
    tasks, times = 100, 100

    async def takes_turns():
        for _ in range(times):
            async with permits:
                await asyncio.sleep(0)

    begin = time.perf_counter()
    await asyncio.gather(*(takes_turns() for _ in range(tasks)))
    return (time.perf_counter() - begin) / (tasks * times)


async def queue(capacity):
    q = asyncio.Queue(capacity)
    n = 20_000

    async def pushes():
        for i in range(n):
            await q.put(i)

    async def pops():
        return sum([await q.get() for _ in range(n)])

    begin = time.perf_counter()
    await asyncio.gather(pushes(), pops())
    return (time.perf_counter() - begin) / n


async def across_threads():
    """Each sent by itself, its end reported back."""

    def sent(i):
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(immediate(i), there))

    there = asyncio.new_event_loop()
    thread = threading.Thread(target=there.run_forever)
    thread.start()
    n = 10_000
    begin = time.perf_counter()
    await asyncio.gather(*(sent(i) for i in range(n)))
    seconds = (time.perf_counter() - begin) / n
    there.call_soon_threadsafe(there.stop)
    thread.join()
    there.close()
    return seconds


def resident_bytes():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


async def memory(wait):
    n = 50_000
    gc.collect()
    before = resident_bytes()
    tasks = [asyncio.create_task(wait()) for _ in range(n)]
    await asyncio.sleep(0)
    used = (resident_bytes() - before) / n
    for t in tasks:
        t.cancel()
    await asyncio.wait(tasks)
    return used


async def echo():
    async def serve(reader, writer):
        try:
            while byte := await reader.read(1):
                writer.write(byte)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    n = 3_000
    begin = time.perf_counter()
    for _ in range(n):
        writer.write(b"x")
        await reader.read(1)
    seconds = (time.perf_counter() - begin) / n
    writer.close()
    server.close()
    return seconds


def wait_for_event():
    event = asyncio.Event()

    async def wait():
        await event.wait()

    return memory(wait)


ITEMS = {
    "gather_immediate/10": lambda: gathers(immediate, 10),
    "gather_immediate/1000": lambda: gathers(immediate, 1_000),
    "gather_immediate/100000": lambda: gathers(immediate, 100_000),
    "gather_yielding/10": lambda: gathers(yielding, 10),
    "gather_yielding/1000": lambda: gathers(yielding, 1_000),
    "gather_yielding/100000": lambda: gathers(yielding, 100_000),
    "yield": yields,
    "nested_await": nested,
    "one_child": one_awaited,
    "spawn_and_join": one_child,
    "race/2": lambda: race(2),
    "race/100": lambda: race(100),
    "semaphore_uncontended": semaphore_uncontended,
    "semaphore_contended": semaphore_contended,
    "queue/1": lambda: queue(1),
    "queue/64": lambda: queue(64),
    "lease": lease,
    "stream": stream,
    "across_threads": across_threads,
    "memory_event": wait_for_event,
    "memory_timer": lambda: memory(lambda: asyncio.sleep(3600)),
    "sleeps/100000": lambda: gathers(sleeps, 100_000),
    "echo": echo,
}


def main():
    loop, item = sys.argv[1:]
    if loop == "uvloop":
        import uvloop

        uvloop.install()
    print(json.dumps(asyncio.run(ITEMS[item]()) if item in ITEMS else None))


main()
