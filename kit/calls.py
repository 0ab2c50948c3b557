"""Repeats of a mutation: the same caller, method and request_id get the same answer."""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from pydantic import TypeAdapter

from kit import audit
from kit.db import Connection
from kit.errors import AlreadyExists
from kit.rpc import Call
from kit.sealing import Keyring

T = TypeVar("T")


class RequestIdReused(AlreadyExists):
    field = "request_id"
    message = "request_id {request_id} was used for another request; take a new one"
    chinese = "request_id {request_id} 已用于另一个请求；请换一个新的"


class Calls:
    """The answers of earlier calls, in the caller's transaction.

    They are sealed for the node and outlive a person's key: so what is personal is left out of
    them, and read again from where it can be erased.
    """

    def __init__(self, conn: Connection, keyring: Keyring) -> None:
        self._conn = conn
        self._sealer = keyring.node

    async def earlier(self, call: Call, kind: type[T]) -> T | None:
        """The answer that this call got before; None if it is new.

        A second transaction with the same id waits here for the first one to end.

        Raises:
            RequestIdReused: if the id came with another request before.
        """
        if call.request_id is None:
            return None
        if await self._conn.fetchval(
            """
            INSERT INTO calls (caller, method, request_id, request_hash, answer)
            VALUES ($1, $2, $3, $4, '')
            ON CONFLICT DO NOTHING
            RETURNING true
            """,
            call.caller, call.method, call.request_id, call.request_hash,
        ):  # fmt: skip
            return None
        row = await self._conn.fetchrow(
            """
            SELECT request_hash, answer FROM calls
             WHERE caller = $1 AND method = $2 AND request_id = $3
            """,
            call.caller, call.method, call.request_id,
        )  # fmt: skip
        assert row is not None
        if row["request_hash"] != call.request_hash:
            raise RequestIdReused(request_id=call.request_id)
        answer: T = _adapter(kind).validate_json(self._sealer.open(row["answer"], _place(call)))
        if call.act:
            call.act.repeated = True
        return answer

    async def answer(self, call: Call, answer: object) -> None:
        """Remember what is answered."""
        if call.act:
            call.act.touch(*audit.names_of(answer))
        if call.request_id is None:
            return
        text = _adapter(type(answer)).dump_json(answer)
        await self._conn.execute(
            """
            UPDATE calls SET answer = $4
             WHERE caller = $1 AND method = $2 AND request_id = $3
            """,
            call.caller, call.method, call.request_id, self._sealer.seal(text, _place(call)),
        )  # fmt: skip

    async def answered(
        self, calls: Sequence[Call], kind: type[T]
    ) -> dict[tuple[str, UUID | None], tuple[bytes, T]]:
        """The answers that calls of one method got before, with the hashes of their requests, by
        caller and request_id.  Unlike `earlier` it waits for nobody: something else must keep two
        transactions from answering the same call."""
        rows = await self._conn.fetch(
            """
            SELECT caller, method, request_id, request_hash, answer FROM calls
              JOIN unnest($1::text[], $2::text[], $3::uuid[]) AS call(caller, method, request_id)
             USING (caller, method, request_id)
            """,
            [call.caller for call in calls],
            [call.method for call in calls],
            [call.request_id for call in calls],
        )
        return {
            (row["caller"], row["request_id"]): (row["request_hash"], self._opened(row, kind))
            for row in rows
        }

    async def answer_all(self, answers: Sequence[tuple[Call, object]]) -> None:
        """Remember what many calls are answered that `answered` did not find, and who they are."""
        for call, answer in answers:
            if call.act:
                call.act.touch(*audit.names_of(answer))
        await audit.record_all(self._conn, [call.act for call, _ in answers if call.act])
        await self._conn.copy_records_to_table(
            "calls",
            columns=["caller", "method", "request_id", "request_hash", "answer"],
            records=[
                (call.caller, call.method, call.request_id, call.request_hash,
                 self._sealed(call, answer))
                for call, answer in answers if call.request_id is not None
            ],
        )  # fmt: skip

    def _opened(self, row: Any, kind: type[T]) -> T:
        place = f"calls.answer/{row['caller']}/{row['method']}/{row['request_id']}"
        opened: T = _adapter(kind).validate_json(self._sealer.open(row["answer"], place))
        return opened

    def _sealed(self, call: Call, answer: object) -> bytes:
        return self._sealer.seal(_adapter(type(answer)).dump_json(answer), _place(call))


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:  # making one takes longer than the call
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _place(call: Call) -> str:
    return f"calls.answer/{call.caller}/{call.method}/{call.request_id}"
