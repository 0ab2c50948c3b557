"""smartunion.sync.v1.SyncService: from proto to a use case and back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from uuid import UUID

from kit import accounts, ranges
from kit.carrier import Tail
from kit.gate import AccessDenied
from kit.limits import Allowances
from kit.log_service import seconds_of
from kit.ranges import Difference, State
from kit.rpc import Context, call_of, caller, page_of, uuid_in
from kit.trust import NodeKey
from kit.waiting import happened
from services.sync.differences import Differences
from services.sync.domain.enrollments import INVITATION_LONGEST, DurationOutOfRange
from services.sync.domain.network import network
from services.sync.domain.nodes import Node, fingerprint
from services.sync.domain.streams import StreamKey
from services.sync.domain.views import View
from services.sync.domain.watching import EventFilter, Subscriber
from services.sync.restores import Restores
from services.sync.servicer import time_of
from services.sync.servicer.network import (
    by_level,
    from_proof,
    to_network_node,
    to_node,
    to_stream_proof,
    without_ages,
)
from services.sync.usecases import Means
from services.sync.usecases.down import Down, is_from_above
from services.sync.usecases.enrollments import Enrollments
from services.sync.usecases.frames import Frames
from services.sync.usecases.homes import Homes
from services.sync.usecases.keys import Keys
from services.sync.usecases.messages import key_of, to_receipt, to_stream
from services.sync.usecases.nodes import below, placed
from services.sync.usecases.streams import Streams
from services.sync.usecases.subscribers import Subscribers
from services.sync.usecases.views import Views
from services.sync.usecases.watching import Watched, Watching
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import sync_pb2 as pb
from smartunion.sync.v1 import sync_pb2_grpc

WATCH_EVERY = 0.5
"""Seconds between two looks at the network for those who follow it."""


class SyncServicer(sync_pb2_grpc.SyncServiceServicer):
    def __init__(
        self,
        means: Means,
        enrollments: Enrollments,
        streams: Streams,
        frames: Frames,
        keys: Keys,
        down: Down,
        restores: Restores,
        proofs: Callable[[], Awaitable[dict[StreamKey, log_pb2.Proof]]],
        figures: Callable[[], Awaitable[list[log_pb2.Figure]]],
        differences: Differences,
        watching: Watching,
        subscribers: Subscribers,
        homes: Homes,
        views: Views,
        stored: Mapping[str, Tail],
        allowances: Allowances,
        *,
        nats_url: str,
        stop: asyncio.Event,
    ) -> None:
        """
        Args:
            proofs: what the services of this node can prove now.
            figures: what they count now.
            stored: by service, moved when frames of its logs were stored.
            allowances: what each child has left.
            differences: compares what they hold with what those of the parent hold.
            nats_url: what subscribers are told of this node's NATS.
            stop: set when this service drains: those who follow are let go.
        """
        self._means, self._enrollments, self._keys = means, enrollments, keys
        self._streams, self._frames = streams, frames
        self._restores, self._stop = restores, stop
        self._proofs, self._figures = proofs, figures
        self._down, self._differences = down, differences
        self._watching, self._subscribers, self._nats_url = watching, subscribers, nats_url
        self._homes = homes
        self._views, self._stored, self._allowances = views, stored, allowances

    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.Node:
        return to_node(await placed(self._means))

    async def CreateInvitation(
        self, request: pb.CreateInvitationRequest, context: Context
    ) -> pb.Invitation:
        asked = request.HasField("valid_duration")
        if abs(request.valid_duration.seconds) > INVITATION_LONGEST.total_seconds():
            raise DurationOutOfRange()
        valid = request.valid_duration.ToTimedelta() if asked else None
        call = call_of(request, request.request_id)
        invited = await self._enrollments.invite(request.organization_code, valid, call=call)
        return pb.Invitation(
            token=invited.token,
            organization_code=invited.organization_code,
            expire_time=invited.expire_time,
        )

    async def ListEnrollments(
        self, request: pb.ListEnrollmentsRequest, context: Context
    ) -> pb.ListEnrollmentsResponse:
        rows = await self._enrollments.waiting()
        return pb.ListEnrollmentsResponse(
            enrollments=[
                pb.Enrollment(
                    node=pb.Node(
                        name=f"nodes/{row['node']}", display_name=row["display_name"],
                        level=row["level"], organization_code=row["organization_code"],
                        fingerprint=fingerprint(row["public_key"]),
                        parent=f"nodes/{self._means.own.id}",
                    ),
                    create_time=row["create_time"],
                )
                for row in rows
            ]
        )  # fmt: skip

    async def ConfirmEnrollment(
        self, request: pb.ConfirmEnrollmentRequest, context: Context
    ) -> pb.Node:
        node = uuid_in(request.name, "nodes")
        return to_node(await self._enrollments.confirm(node, request.fingerprint))

    async def RevokeEnrollment(
        self, request: pb.RevokeEnrollmentRequest, context: Context
    ) -> pb.RevokeEnrollmentResponse:
        await self._enrollments.revoke(uuid_in(request.name, "nodes"))
        return pb.RevokeEnrollmentResponse()

    async def Enroll(self, request: pb.EnrollRequest, context: Context) -> pb.EnrollResponse:
        node = Node(
            id=uuid_in(request.node.name, "nodes", field="node.name"),
            parent=self._means.own.id,
            organization_code=request.node.organization_code,
            display_name=request.node.display_name,
            level=request.node.level,
            public_key=request.public_key,
            certificate=request.certificate,
        )
        given = await self._enrollments.enroll(request.token, node, request.nats_user_key)
        if given is None:
            return pb.EnrollResponse()
        return pb.EnrollResponse(
            confirmed=True, parent=f"nodes/{self._means.own.id}", link_token=given["link_token"],
            nats_url=given["nats_url"], nats_user_jwt=given["user_jwt"],
            link_certificate=given["link_certificate"],
        )  # fmt: skip

    async def FindHome(self, request: pb.FindHomeRequest, context: Context) -> pb.Home:
        home = await self._homes.find(request.organization_code)
        return pb.Home(
            node=f"nodes/{home.node}", display_name=home.display_name,
            organization_code=home.organization_code, address=home.address, issuer=home.issuer,
        )  # fmt: skip

    async def PushFrames(
        self, request: pb.PushFramesRequest, context: Context
    ) -> pb.PushFramesResponse:
        with self._allowances.running(caller.get(), "pushes_at_once"):
            return await self._down.receive(_child(), request)

    async def PushSnapshot(
        self, requests: AsyncIterator[pb.PushSnapshotRequest], context: Context
    ) -> pb.PushSnapshotResponse:
        stream = await self._restores.accept(_child(), requests)
        return pb.PushSnapshotResponse(receipt=to_receipt(stream))

    async def ReadFrames(
        self, request: pb.ReadFramesRequest, context: Context
    ) -> pb.ReadFramesResponse:
        key = key_of(request.stream)
        after = min(request.after, 2**62)
        return pb.ReadFramesResponse(frames=await self._streams.following(key, _child(), after))

    async def ReadSnapshot(
        self, request: pb.ReadSnapshotRequest, context: Context
    ) -> AsyncIterator[pb.ReadSnapshotResponse]:
        async for answer in self._restores.serve(_child(), key_of(request.stream)):
            yield answer

    async def ListTakenBack(
        self, request: pb.ListTakenBackRequest, context: Context
    ) -> pb.ListTakenBackResponse:
        answer = await self._restores.list_taken_back(
            request.service, request.page_size, request.page_token
        )
        return pb.ListTakenBackResponse(
            records=answer.records, next_page_token=answer.next_page_token
        )

    async def CompareRanges(
        self, request: pb.CompareRangesRequest, context: Context
    ) -> log_pb2.SumRangesResponse:
        key = key_of(request.stream)
        ranges.check(request.ranges)
        await self._streams.check_below(key, _child())
        return await self._differences.held(key, request.ranges)

    async def ListDifferences(
        self, request: pb.ListDifferencesRequest, context: Context
    ) -> pb.ListDifferencesResponse:
        page = page_of(request, usual=100, most=1_000)
        own = f"nodes/{self._means.own.id}"
        origin = uuid_in(request.origin or own, "nodes", field="origin")
        channel = request.channel or "records"
        key = await self._streams.key(origin, request.service, channel)
        search = await self._differences.search(key, most=page.size, start=page.key)
        return pb.ListDifferencesResponse(
            differences=map(to_difference, search.found),
            next_page_token=page.token(search.end or None),
        )

    async def ReadLog(self, request: pb.ReadLogRequest, context: Context) -> pb.ReadLogResponse:
        if caller.get() != f"services/{request.reader}":
            raise AccessDenied(method=f"ReadLog as {request.reader[:50]}", caller=caller.get())
        cursors = {key_of(receipt.stream): receipt.frame for receipt in request.after}
        shown, moved = self._means.shown, self._stored.get(request.reader, Tail()).moved
        found, gaps = await self._frames.read(request.reader, cursors)
        if not found:
            came = await happened(moved, seconds_of(request.wait))
            shown = self._means.shown
            if came:
                found, _ = await self._frames.read(request.reader, cursors, waited=True)
        return pb.ReadLogResponse(
            frames=found, gaps=[to_stream(key) for key in gaps], view=shown.name,
            sections=shown.here,
        )  # fmt: skip

    async def ListKeys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:
        root, keys = await self._keys.trusted()
        names = {node.id: node for node in (self._means.own, *(await below(self._means)).values())}
        return pb.ListKeysResponse(
            root=root, keys=[to_node_key(key, names.get(key.node)) for key in keys.values()]
        )

    async def CreateView(self, request: pb.CreateViewRequest, context: Context) -> pb.View:
        call, asked = call_of(request, request.request_id), request.view
        view = await self._views.create(
            [(rule.section, rule.level) for rule in asked.rules],
            time_of(asked.effective_time) if asked.HasField("effective_time") else None,
            call=call,
        )
        return to_view(view)

    async def ListViews(
        self, request: pb.ListViewsRequest, context: Context
    ) -> pb.ListViewsResponse:
        page = page_of(request)
        found, key = await self._views.page(page)
        return pb.ListViewsResponse(views=map(to_view, found), next_page_token=page.token(key))

    async def GetNetwork(self, request: pb.GetNetworkRequest, context: Context) -> pb.Network:
        return await self._network()

    async def WatchNetwork(
        self, request: pb.WatchNetworkRequest, context: Context
    ) -> AsyncIterator[pb.Network]:
        shown = b""
        while not self._stop.is_set():
            network = await self._network()
            now = without_ages(network)
            if now != shown:
                yield network
            shown = now
            await asyncio.sleep(WATCH_EVERY)

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        found = self._watching.watch(
            filter_of(request.filter), request.resume_token,
            from_beginning=request.from_beginning, stop=self._stop,
        )  # fmt: skip
        async with aclosing(found):
            async for event, position in found:
                yield pb.WatchEventsResponse(
                    event=to_event(event) if event else None, resume_token=position.token()
                )

    async def CreateSubscriber(
        self, request: pb.CreateSubscriberRequest, context: Context
    ) -> pb.Subscriber:
        call = call_of(request, request.request_id)
        asked = filter_of(request.filter)
        return self._subscriber(
            await self._subscribers.create(
                request.display_name, request.nats_user_key, asked, call=call
            )
        )

    async def ListSubscribers(
        self, request: pb.ListSubscribersRequest, context: Context
    ) -> pb.ListSubscribersResponse:
        page = page_of(request)
        found, key = await self._subscribers.page(page)
        return pb.ListSubscribersResponse(
            subscribers=map(self._subscriber, found), next_page_token=page.token(key)
        )

    async def RevokeSubscriber(
        self, request: pb.RevokeSubscriberRequest, context: Context
    ) -> pb.Subscriber:
        call = call_of(request, request.request_id)
        subscriber = uuid_in(request.name, "subscribers")
        return self._subscriber(await self._subscribers.revoke(subscriber, call=call))

    def _subscriber(self, subscriber: Subscriber) -> pb.Subscriber:
        return pb.Subscriber(
            name=f"subscribers/{subscriber.id}", display_name=subscriber.display_name,
            nats_user_key=subscriber.nats_user_key,
            filter=pb.EventFilter(
                types=subscriber.filter.types, subtree=subscriber.filter.subtree,
                origins=[f"nodes/{origin}" for origin in subscriber.filter.origins],
            ),
            create_time=subscriber.create_time, revoke_time=subscriber.revoke_time,
            nats_url=self._nats_url, nats_user_jwt=subscriber.user_jwt,
            consumer=str(subscriber.id), inbox_prefix=accounts.inbox_prefix(str(subscriber.id)),
            api_prefix=accounts.API_PREFIX,
        )  # fmt: skip

    async def _network(self) -> pb.Network:
        proofs, figures = await asyncio.gather(self._proofs(), self._figures())
        states = network(
            await placed(self._means),
            await below(self._means),
            await self._streams.all(),
            {key: from_proof(proof) for key, proof in proofs.items()},
            self._means.services,
        )
        detached, views = await self._streams.detached(), await self._views.reports()
        return pb.Network(
            nodes=[to_network_node(state, proofs, detached, figures, views) for state in states],
            view=self._means.shown.name,
            levels=by_level([state.node for state in states], figures),
            from_above=[
                to_stream_proof(stream, proofs, detached)
                for stream in await self._streams.all()
                if is_from_above(stream)
            ],
        )


def _child() -> UUID:
    """The child that calls a method that is open to nodes alone."""
    return UUID(caller.get().removeprefix("nodes/"))


def to_view(view: View) -> pb.View:
    return pb.View(
        name=view.name, number=view.number,
        rules=[
            pb.View.Rule(section=section, level=level) for section, level in view.rules.items()
        ],
        effective_time=view.effective_time, create_time=view.create_time,
    )  # fmt: skip


def to_node_key(key: NodeKey, node: Node | None) -> pb.NodeKey:
    shown = pb.Node(
        name=f"nodes/{key.node}", level=key.level, organization_code=key.organization_code,
        parent=f"nodes/{key.parent}" if key.parent else "",
    )  # fmt: skip
    if node is not None:
        shown.display_name = node.display_name
        shown.fingerprint = fingerprint(node.public_key)
    return pb.NodeKey(
        node=shown, public_key=key.public_key, seal_key=key.seal_key, certificate=key.certificate
    )


def filter_of(asked: pb.EventFilter) -> EventFilter:
    """Which events are asked for."""
    return EventFilter(
        types=tuple(asked.types),
        origins=tuple(
            uuid_in(origin, "nodes", field=f"filter.origins[{at}]")
            for at, origin in enumerate(asked.origins)
        ),
        subtree=asked.subtree,
    )


def to_event(event: Watched) -> pb.Event:
    key, line = event.key, event.line
    return pb.Event(
        id=str(event.event_id), type=line.event_type, event_time=event.event_time,
        origin=f"nodes/{key.origin}", service=key.service, channel=key.channel,
        number=line.number, subject=f"{line.kind}/{line.id}", owner_epoch=line.owner_epoch,
        version=line.version, record_hash=line.hash, event=line.event,
    )  # fmt: skip


def to_difference(found: Difference) -> pb.Difference:
    return pb.Difference(
        record=f"{found.kind}/{found.id}",
        here=_record_state(found.here),
        above=_record_state(found.above),
        meaning=pb.Difference.Meaning.Name(found.meaning),
    )


def _record_state(state: State | None) -> pb.RecordState | None:
    if state is None:
        return None
    return pb.RecordState(owner_epoch=state.owner_epoch, version=state.version)
