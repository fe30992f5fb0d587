"""The look-alike: pools with keep-alive that are idle for longer than any budget, of requests and of
aiohttp (which lets go after 15 s by itself)."""

import asyncio

import aiohttp
import requests
import stage

url = f"http://127.0.0.1:{stage.port}/"
stage.go()
sessions = [requests.Session() for _ in range(5)]


async def burst(session):
    async def get():
        async with session.get(url) as response:
            await response.read()

    await asyncio.gather(*(get() for _ in range(5)))


async def main():
    async with aiohttp.ClientSession() as session:
        while True:
            for each in sessions:
                each.get(url)
            await burst(session)
            await asyncio.sleep(72)


asyncio.run(main())
