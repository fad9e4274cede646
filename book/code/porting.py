import asyncio

asked = {}

async def ask(shop):                              # stands for a request over the network
    asked[shop] = asked.get(shop, 0) + 1
    await asyncio.sleep(30 if shop == "snail" else 0.1)
    if shop == "flaky" and asked[shop] < 3:
        raise ConnectionError("connection reset")
    return len(shop)

async def fetch(shop):
    for attempt in range(3):
        try:
            return await asyncio.wait_for(ask(shop), timeout=1)
        except (ConnectionError, asyncio.TimeoutError):
            if attempt == 2:
                raise
            await asyncio.sleep(0.2 * 2 ** attempt)

async def worker(queue, prices):
    while True:
        shop = await queue.get()
        try:
            prices[shop] = await fetch(shop)
        except Exception as e:
            print(f"{shop}: {type(e).__name__}")
        finally:
            queue.task_done()

async def save(prices):
    await asyncio.sleep(0.05)
    print("saved", dict(sorted(prices.items())))

async def collect(shops):
    queue, prices = asyncio.Queue(), {}
    workers = [asyncio.create_task(worker(queue, prices)) for _ in range(2)]
    try:
        for shop in shops:
            await queue.put(shop)
        await queue.join()
    finally:
        for w in workers:
            w.cancel()
        await save(prices)

try:
    asyncio.run(collect(["corner", "flaky", "snail", "market", "mill"]))
except KeyboardInterrupt:
    print("interrupted")
