"""Services with nothing but health, to try the supervisor with."""

import asyncio
import os
import signal
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic_settings import BaseSettings, SettingsConfigDict

from node.services import OFFICERS


class Settings(BaseSettings):
    """Takes what the real ones take."""

    model_config = SettingsConfigDict(env_prefix="SMARTUNION_", extra="allow")

    listen: str
    database_url: str
    node_name: str
    peers: dict[str, str]


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Say that all is well until told to stop."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    servicer: Any = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(settings.listen)
    await server.start()
    for part in ("", OFFICERS):
        await servicer.set(part, health_pb2.HealthCheckResponse.SERVING)
    await stop.wait()
    await server.stop(1)


async def main() -> None:
    if os.environ.get("STANDIN_FAILS"):
        raise SystemExit(3)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve(Settings(), stop)
