"""Several downloads at once from asyncio: ``python -m examples.asyncio_client FOLDER URL...``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from haulage import AsyncTransferClient, HaulageError


async def fetch(client: AsyncTransferClient, url: str, folder: str) -> bool:
    """One download into a folder; the URL decides on its name."""
    try:
        transfer_id = await client.submit(url, folder, on_exists="overwrite")
        async for update in client.progress(transfer_id):
            progress = update.transfer.progress
            print(f"{url}: {progress.ratio:4.0%} {progress.smoothed_bytes_per_second / 1e6:.1f} MB/s")
        await client.wait(transfer_id)
    except HaulageError as exc:
        print(f"{url}: {exc.code}: {exc}", file=sys.stderr)
        return False
    return True


async def main() -> int:
    if len(sys.argv) < 3:
        print("usage: python -m examples.asyncio_client FOLDER URL...", file=sys.stderr)
        return 2
    folder, urls = f"{Path(sys.argv[1]).resolve()}/", sys.argv[2:]
    async with AsyncTransferClient() as client:
        done = await asyncio.gather(*(fetch(client, url, folder) for url in urls))
    print(f"{sum(done)} of {len(urls)} are there")
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
