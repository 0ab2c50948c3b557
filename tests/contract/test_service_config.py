"""What docs/service-config.json has clients do by themselves is safe, and they do it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

from kit.gate import rule_of
from smartunion.event.v1 import access_pb2
from tests.contract.test_protos import SERVED

CONFIG = (Path(__file__).parents[2] / "docs" / "service-config.json").read_text()
METHODS = json.loads(CONFIG)["methodConfig"]
READS = ("Explain", "Export", "Find", "Get", "List", "Search", "Verify")


def of_clients() -> Iterator[MethodDescriptor]:
    """The methods that are not for nodes and services alone."""
    for file in SERVED:
        for service in file.services_by_name.values():
            for method in service.methods:
                inner = (access_pb2.NODE, access_pb2.SERVICE)
                if rule_of(service.full_name, method.name).access not in inner:
                    yield method


def test_a_call_is_repeated_if_it_reads_or_has_a_request_id_and_no_stream_is() -> None:
    everything, nothing = METHODS
    assert everything["name"] == [{}]
    assert "retryPolicy" not in nothing and "timeout" not in nothing
    spared = {f"{name['service']}.{name['method']}" for name in nothing["name"]}
    assert spared == {method.full_name for method in of_clients() if not may_repeat(method)}


def may_repeat(method: MethodDescriptor) -> bool:
    """Whether a call that was cut may simply be made again."""
    if method.client_streaming or method.server_streaming:
        return False
    return method.name.startswith(READS) or "request_id" in method.input_type.fields_by_name


async def test_a_client_repeats_what_passes_and_what_a_limit_refused_when_it_is_told_to() -> None:
    unavailable, exhausted = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
    ends = [(unavailable, ()), (exhausted, (("grpc-retry-pushback-ms", "20"),)),
            (grpc.StatusCode.ABORTED, ()),
            (exhausted, (("grpc-retry-pushback-ms", "-1"),))]  # fmt: skip
    left = iter(ends)

    async def answer(request: bytes, context: Any) -> None:
        code, metadata = next(left)
        await context.abort(code, "not now", metadata)

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Get": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("any", handlers)])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    options = [("grpc.service_config", CONFIG), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        get: Any = channel.unary_unary("/any/Get")
        assert await get(b"").code() is grpc.StatusCode.ABORTED
        assert await get(b"").code() is exhausted
    await server.stop(None)
    assert list(left) == []
