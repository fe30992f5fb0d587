"""The mistake: a session for each request that is never closed, towards a server that never closes
either.
Reported: "Unclosed client session" of aiohttp; the connections pile up where idle connections are
kept for long."""

import asyncio

import aiohttp
import stage

kept = []


async def get():
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=3600))
    kept.append(session)
    async with session.get(f"http://127.0.0.1:{stage.port}/") as response:
        await response.read()


async def main():
    for _ in range(200):
        await get()
        await asyncio.sleep(2)


stage.go()
stage.say("leaked")
asyncio.run(main())
