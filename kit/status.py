"""Refusals on the wire: as a google.rpc.Status, and read from one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from kit.errors import Refusal, ResourceExhausted


def to_status(refusal: Refusal, *, domain: str) -> status_pb2.Status:
    """The refusal as a google.rpc.Status.  Source: AIP-193.

    With `ErrorInfo`, `LocalizedMessage` in zh-CN, `BadRequest` where a field is wrong, and
    `RetryInfo` where time helps.
    """
    info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain=domain, metadata=refusal.facts)
    details: list[Message] = [
        info,
        error_details_pb2.LocalizedMessage(locale="zh-CN", message=refusal.chinese_text),
    ]
    if refusal.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=refusal.field, description=str(refusal), reason=refusal.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if refusal.retry_delay is not None:
        again = error_details_pb2.RetryInfo()
        again.retry_delay.FromTimedelta(timedelta(seconds=refusal.retry_delay))
        details.append(again)
    return status_pb2.Status(
        code=refusal.code, message=str(refusal), details=[_packed(detail) for detail in details]
    )


def pushback(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """When a client whose service config has it repeat RESOURCE_EXHAUSTED does so, in ms; -1:
    never.  Source: gRFC A6."""
    if not isinstance(refusal, ResourceExhausted):
        return ()
    delay = refusal.retry_delay
    return (("grpc-retry-pushback-ms", "-1" if delay is None else f"{delay * 1000:.0f}"),)


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


@dataclass(frozen=True, slots=True)
class Refused:
    """What a refused caller learns; empty as far as the other end did not say it."""

    code: grpc.StatusCode
    text: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    field: str = ""
    chinese: str = ""
    retry_delay: float | None = None
    """Seconds after which the same call may be served."""


def refused(error: grpc.aio.AioRpcError) -> Refused:
    """What an error of a call says, as `to_status` wrote it."""
    info, words = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
    bad, again = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status else ():
        for known in (info, words, bad, again):
            detail.Unpack(known)
    fields = [violation.field for violation in bad.field_violations]
    return Refused(
        error.code(), error.details() or "", info.reason, dict(info.metadata), "".join(fields),
        words.message,
        again.retry_delay.ToTimedelta().total_seconds() if again.HasField("retry_delay") else None,
    )  # fmt: skip
