"""A bare grpc.aio server that answers each call by one select by key: python -m bench.echo DSN

The probe of GetMember: the same libraries and nothing of ours.  It prints its port.
"""

import asyncio
import sys
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import uvloop

from node.databases import as_owner

METHOD = "/bench.Echo/Get"


async def serve(dsn: str) -> None:
    """Until killed."""
    async with asyncpg.create_pool(as_owner(dsn), min_size=1, max_size=10) as pool:

        async def get(request: bytes, context: Any) -> bytes:
            row = await pool.fetchrow("SELECT * FROM members WHERE id = $1", UUID(bytes=request))
            assert row is not None
            return bytes(row["public"])

        server = grpc.aio.server()
        handler: Any = grpc.unary_unary_rpc_method_handler(get)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bench.Echo", {"Get": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
