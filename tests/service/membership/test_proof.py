"""The tables of membership are what its log says of them."""

import grpc

from kit.wire import CHANNEL_OPTIONS
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.membership.v1 import membership_pb2 as pb
from tests.builders import a_roster
from tests.eventually import eventually
from tests.service.desk import Desk


async def test_every_way_to_change_a_record_leaves_table_and_log_equal(alone: Desk) -> None:
    await alone.approve(await alone.apply(1))
    rejected = await alone.apply(2)
    await alone.ask(pb.RejectApplicationRequest(name=rejected.name, reason="材料不全"))
    await alone.bring(a_roster([*alone.member_rows([3, 4]), *alone.applicant_rows([5])]))
    node = alone.settings.node
    metadata = alone.as_officer("services/sync")
    request = log_pb2.RecountRequest(origin=node.bytes, channel="records")
    async with grpc.aio.insecure_channel(alone.settings.listen, options=CHANNEL_OPTIONS) as channel:
        log = log_pb2_grpc.LogServiceStub(channel)

        async def complete() -> None:
            proof = await log.Recount(request, metadata=metadata)
            assert proof.verdict == log_pb2.COMPLETE
            assert {count.kind: count.records for count in proof.counts} == {
                "applications": 3, "members": 3,
            }  # fmt: skip

        await eventually(complete)
        await alone.pool.execute(
            "UPDATE members SET state = 2 WHERE id = (SELECT min(id::text)::uuid FROM members)"
        )
        proof = await log.Recount(request, metadata=metadata)
        assert proof.verdict == log_pb2.DIFFERENT
