"""A programme is made by one officer and opened by another."""

import asyncpg
import grpc
import pytest

from smartunion.benefits.v1 import benefits_pb2 as pb
from tests.offices import DEPUTY
from tests.service.benefits.counter import OFFICER, Counter


async def drafts(counter: Counter) -> list[str]:
    found = await counter.ask(pb.ListProgrammesRequest(drafts=True))
    return [one.name for one in found.programmes]


async def test_nobody_hears_of_a_programme_until_another_officer_opens_it(counter: Counter) -> None:
    member, made = await counter.member(), await counter.ask(counter.a_programme())
    assert (made.state, made.creator, made.remaining_here) == (pb.Programme.DRAFT, OFFICER, 0)
    assert made == await counter.ask(pb.GetProgrammeRequest(name=made.name))
    assert made.name in await drafts(counter)
    claim = pb.ClaimCouponRequest(programme=made.name)
    assert (await counter.refusal(claim, by=member)).reason == "PROGRAMME_NOT_FOUND"
    assert await counter.events(made.name) == []

    told = await counter.refusal(counter.opening(made))
    assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FILED_BY_CALLER")
    opening = counter.opening(made)
    opened = await counter.ask(opening, by=DEPUTY)
    assert (opened.state, opened.remaining_here, opened.version) == (pb.Programme.OPEN, 10, 1)
    assert opened == await counter.ask(opening, by=DEPUTY)
    assert opened == await counter.ask(pb.GetProgrammeRequest(name=made.name))
    assert made.name not in await drafts(counter)
    assert await counter.events(made.name) == ["ProgrammeCreated"]
    assert (await counter.ask(claim, by=member)).coupon.programme == made.name
    told = await counter.refusal(counter.opening(made), by=DEPUTY)
    assert told.reason == "PROGRAMME_OPEN"


async def test_the_database_holds_no_programme_that_one_alone_opened(counter: Counter) -> None:
    made = await counter.ask(counter.a_programme())
    with pytest.raises(asyncpg.CheckViolationError) as error:
        await counter.pool.execute(
            "UPDATE drafts SET opener = creator WHERE id = $1", made.name.partition("/")[2]
        )
    assert error.value.constraint_name == "drafts_four_eyes"
