"""smartunion.sync.v1.SyncService: from proto to a use case and back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kit import accounts, ranges
from kit.ranges import Difference, State
from kit.rpc import AccessDenied, Context, call_of, caller, page_of, uuid_in
from kit.trust import NodeKey
from services.sync.differences import Differences
from services.sync.domain.directives import Progress, Report
from services.sync.domain.directives import State as DirectiveState
from services.sync.domain.enrollments import INVITATION_LONGEST, DurationOutOfRange
from services.sync.domain.network import NodeState, Proof, Verdict, network
from services.sync.domain.nodes import LEVELS, Node, fingerprint
from services.sync.domain.streams import Stream, StreamKey
from services.sync.domain.views import View
from services.sync.domain.watching import EventFilter, Subscriber
from services.sync.restores import Restores
from services.sync.usecases import Sync, key_of, to_receipt, to_stream
from services.sync.usecases.directives import Directives, Draft, Overview
from services.sync.usecases.down import Down, is_from_above
from services.sync.usecases.homes import Homes
from services.sync.usecases.subscribers import Subscribers
from services.sync.usecases.views import Views
from services.sync.usecases.watching import Watched, Watching
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import directive_pb2, directive_pb2_grpc, sync_pb2_grpc
from smartunion.sync.v1 import sync_pb2 as pb

WATCH_EVERY = 0.5
"""Seconds between two looks at the network for those who follow it."""


class SyncServicer(sync_pb2_grpc.SyncServiceServicer):
    def __init__(
        self,
        sync: Sync,
        down: Down,
        restores: Restores,
        proofs: Callable[[], Awaitable[dict[StreamKey, log_pb2.Proof]]],
        figures: Callable[[], Awaitable[list[log_pb2.Figure]]],
        differences: Differences,
        watching: Watching,
        subscribers: Subscribers,
        homes: Homes,
        views: Views,
        *,
        nats_url: str,
        stop: asyncio.Event,
    ) -> None:
        """
        Args:
            proofs: what the services of this node can prove now.
            figures: what they count now.
            differences: compares what they hold with what those of the parent hold.
            nats_url: what subscribers are told of this node's NATS.
            stop: set when this service drains: those who follow are let go.
        """
        self._sync, self._restores, self._stop = sync, restores, stop
        self._proofs, self._figures = proofs, figures
        self._down, self._differences = down, differences
        self._watching, self._subscribers, self._nats_url = watching, subscribers, nats_url
        self._homes = homes
        self._views = views

    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.Node:
        return to_node(await self._sync.placed())

    async def CreateInvitation(
        self, request: pb.CreateInvitationRequest, context: Context
    ) -> pb.Invitation:
        asked = request.HasField("valid_duration")
        if abs(request.valid_duration.seconds) > INVITATION_LONGEST.total_seconds():
            raise DurationOutOfRange()
        valid = request.valid_duration.ToTimedelta() if asked else None
        call = call_of(request, request.request_id)
        invited = await self._sync.invite(request.organization_code, valid, call=call)
        return pb.Invitation(
            token=invited.token,
            organization_code=invited.organization_code,
            expire_time=invited.expire_time,
        )

    async def ListEnrollments(
        self, request: pb.ListEnrollmentsRequest, context: Context
    ) -> pb.ListEnrollmentsResponse:
        rows = await self._sync.enrollments()
        return pb.ListEnrollmentsResponse(
            enrollments=[
                pb.Enrollment(
                    node=pb.Node(
                        name=f"nodes/{row['node']}", display_name=row["display_name"],
                        level=row["level"], organization_code=row["organization_code"],
                        fingerprint=fingerprint(row["public_key"]),
                        parent=f"nodes/{self._sync.own.id}",
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
        return to_node(await self._sync.confirm(node, request.fingerprint))

    async def RevokeEnrollment(
        self, request: pb.RevokeEnrollmentRequest, context: Context
    ) -> pb.RevokeEnrollmentResponse:
        await self._sync.revoke(uuid_in(request.name, "nodes"))
        return pb.RevokeEnrollmentResponse()

    async def Enroll(self, request: pb.EnrollRequest, context: Context) -> pb.EnrollResponse:
        node = Node(
            id=uuid_in(request.node.name, "nodes", field="node.name"),
            parent=self._sync.own.id,
            organization_code=request.node.organization_code,
            display_name=request.node.display_name,
            level=request.node.level,
            public_key=request.public_key,
            certificate=request.certificate,
        )
        given = await self._sync.enroll(request.token, node, request.nats_user_key)
        if given is None:
            return pb.EnrollResponse()
        return pb.EnrollResponse(
            confirmed=True, parent=f"nodes/{self._sync.own.id}", link_token=given["link_token"],
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
        return pb.ReadFramesResponse(frames=await self._sync.following(key, _child(), after))

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
        await self._sync.check_below(key, _child())
        return await self._differences.held(key, request.ranges)

    async def ListDifferences(
        self, request: pb.ListDifferencesRequest, context: Context
    ) -> pb.ListDifferencesResponse:
        page = page_of(request, usual=100, most=1_000)
        own = f"nodes/{self._sync.own.id}"
        origin = uuid_in(request.origin or own, "nodes", field="origin")
        channel = request.channel or "records"
        key = await self._sync.stream_key(origin, request.service, channel)
        search = await self._differences.search(key, most=page.size, start=page.key)
        return pb.ListDifferencesResponse(
            differences=map(to_difference, search.found),
            next_page_token=page.token(search.end or None),
        )

    async def ReadLog(self, request: pb.ReadLogRequest, context: Context) -> pb.ReadLogResponse:
        if caller.get() != f"services/{request.reader}":
            raise AccessDenied(method=f"ReadLog as {request.reader[:50]}", caller=caller.get())
        cursors = {key_of(receipt.stream): receipt.frame for receipt in request.after}
        shown = self._sync.shown
        found, gaps = await self._sync.read(request.reader, cursors)
        return pb.ReadLogResponse(
            frames=found, gaps=[to_stream(key) for key in gaps], view=shown.name,
            sections=shown.here,
        )  # fmt: skip

    async def ListKeys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:
        root, keys = await self._down.keys()
        names = {node.id: node for node in (self._sync.own, *(await self._sync.nodes()).values())}
        return pb.ListKeysResponse(
            root=root, keys=[to_node_key(key, names.get(key.node)) for key in keys.values()]
        )

    async def CreateView(self, request: pb.CreateViewRequest, context: Context) -> pb.View:
        call, asked = call_of(request, request.request_id), request.view
        view = await self._views.create(
            [(rule.section, rule.level) for rule in asked.rules],
            _time(asked.effective_time) if asked.HasField("effective_time") else None,
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
            now = _without_ages(network)
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
            await self._sync.placed(),
            await self._sync.nodes(),
            await self._sync.streams(),
            {key: from_proof(proof) for key, proof in proofs.items()},
            self._sync.services,
        )
        detached, views = await self._sync.detached(), await self._views.reports()
        return pb.Network(
            nodes=[to_network_node(state, proofs, detached, figures, views) for state in states],
            view=self._sync.shown.name,
            levels=by_level([state.node for state in states], figures),
            from_above=[
                to_stream_proof(stream, proofs, detached)
                for stream in await self._sync.streams()
                if is_from_above(stream)
            ],
        )


class DirectiveServicer(directive_pb2_grpc.DirectiveServiceServicer):
    def __init__(self, directives: Directives) -> None:
        self._directives = directives

    async def CreateDirective(
        self, request: directive_pb2.CreateDirectiveRequest, context: Context
    ) -> directive_pb2.Directive:
        asked = request.directive
        draft = Draft(
            title=asked.title, text=asked.text, subtree=asked.subtree, levels=tuple(asked.levels),
            due_time=_time(asked.due_time),
            parent=uuid_in(asked.parent, "directives", field="directive.parent")
            if asked.parent
            else None,
        )  # fmt: skip
        call = call_of(request, request.request_id)
        return to_directive(await self._directives.create(draft, call=call))

    async def GetDirective(
        self, request: directive_pb2.GetDirectiveRequest, context: Context
    ) -> directive_pb2.Directive:
        return to_directive(await self._directives.get(uuid_in(request.name, "directives")))

    async def ListDirectives(
        self, request: directive_pb2.ListDirectivesRequest, context: Context
    ) -> directive_pb2.ListDirectivesResponse:
        page = page_of(request)
        found, key = await self._directives.page(page)
        return directive_pb2.ListDirectivesResponse(
            directives=[to_directive(one, parts=False) for one in found],
            next_page_token=page.token(key),
        )

    async def ListDirectiveReports(
        self, request: directive_pb2.ListDirectiveReportsRequest, context: Context
    ) -> directive_pb2.ListDirectiveReportsResponse:
        page = page_of(request)
        directive = uuid_in(request.parent, "directives", field="parent")
        found, key = await self._directives.reports(directive, page)
        return directive_pb2.ListDirectiveReportsResponse(
            reports=[to_report(node, report) for node, report in found],
            next_page_token=page.token(key),
        )

    async def ReadDirective(
        self, request: directive_pb2.ReadDirectiveRequest, context: Context
    ) -> directive_pb2.Directive:
        return await self._report(request, DirectiveState.READ)

    async def CompleteDirective(
        self, request: directive_pb2.CompleteDirectiveRequest, context: Context
    ) -> directive_pb2.Directive:
        return await self._report(request, DirectiveState.COMPLETED)

    async def RefuseDirective(
        self, request: directive_pb2.RefuseDirectiveRequest, context: Context
    ) -> directive_pb2.Directive:
        return await self._report(request, DirectiveState.REFUSED, reason=request.reason)

    async def _report(
        self, request: Any, state: DirectiveState, *, reason: str = ""
    ) -> directive_pb2.Directive:
        directive = uuid_in(request.name, "directives")
        call = call_of(request, request.request_id)
        return to_directive(
            await self._directives.report(directive, state, reason=reason, call=call)
        )


def _child() -> UUID:
    """The child that calls a method that is open to nodes alone."""
    return UUID(caller.get().removeprefix("nodes/"))


def to_directive(overview: Overview, *, parts: bool = True) -> directive_pb2.Directive:
    directive = overview.directive
    return directive_pb2.Directive(
        name=directive.name, title=directive.title, text=directive.text,
        subtree=directive.subtree, levels=directive.levels, due_time=directive.due_time,
        parent=f"directives/{directive.parent}" if directive.parent else "",
        origin=f"nodes/{directive.origin}", create_time=directive.create_time,
        progress=to_progress(overview.progress),
        parts=[
            directive_pb2.DirectivePart(node=f"nodes/{node}", progress=to_progress(part))
            for node, part in overview.parts.items()
            if parts and part.expected
        ],
        report=to_report(None, overview.report) if overview.report else None,
    )  # fmt: skip


def to_view(view: View) -> pb.View:
    return pb.View(
        name=view.name, number=view.number,
        rules=[
            pb.View.Rule(section=section, level=level) for section, level in view.rules.items()
        ],
        effective_time=view.effective_time, create_time=view.create_time,
    )  # fmt: skip


def to_progress(progress: Progress) -> directive_pb2.DirectiveProgress:
    states = {state.name.lower(): count for state, count in progress.states.items()}
    return directive_pb2.DirectiveProgress(
        expected=progress.expected, silent=progress.silent, overdue=progress.overdue, **states
    )


def to_report(node: Node | None, report: Report | None) -> directive_pb2.DirectiveReport:
    shown = directive_pb2.DirectiveReport(
        node=f"nodes/{node.id}" if node else "", display_name=node.display_name if node else ""
    )
    if report is not None:
        shown.MergeFrom(
            directive_pb2.DirectiveReport(
                node=f"nodes/{report.node}", state=report.state.name, reason=report.reason,
                report_time=report.report_time,
            )
        )  # fmt: skip
    return shown


def from_proof(proof: log_pb2.Proof) -> Proof:
    """What sync must know of a proof."""
    return Proof(
        verdict=Verdict(proof.verdict),
        applied=proof.applied,
        counts={count.kind: count.records for count in proof.counts},
        certify_time=proof.certify_time.ToDatetime() if proof.HasField("certify_time") else None,
        compare_age=proof.compare_age.ToTimedelta(),
    )


def to_node(node: Node) -> pb.Node:
    return pb.Node(
        name=f"nodes/{node.id}",
        display_name=node.display_name,
        level=node.level,
        organization_code=node.organization_code,
        fingerprint=fingerprint(node.public_key),
        parent=f"nodes/{node.parent}" if node.parent else "",
    )


def to_network_node(
    state: NodeState,
    proofs: Mapping[StreamKey, log_pb2.Proof],
    detached: Mapping[StreamKey, Sequence[str]],
    figures: Sequence[log_pb2.Figure],
    views: Mapping[UUID, UUID],
) -> pb.NetworkNode:
    view = views.get(state.node.id)
    return pb.NetworkNode(
        node=to_node(state.node),
        verdict=log_pb2.Verdict.Name(state.verdict),
        members=state.members,
        subtree_members=sum(below.members for below in state.subtree),
        lag_entries=state.lag,
        heard_age=_duration(state.heard_age),
        connected=state.connected,
        certify_time=state.certify_time,
        covered_nodes=sum(below.covered for below in state.subtree),
        subtree_nodes=len(state.subtree),
        streams=[to_stream_proof(stream, proofs, detached) for stream, _ in state.streams],
        figures=[
            pb.NodeFigure(name=figure.name, value=figure.value)
            for figure in figures
            if figure.origin == state.node.id.bytes
        ],
        view=f"views/{view}" if view else "",
    )


def by_level(nodes: Sequence[Node], figures: Sequence[log_pb2.Figure]) -> list[pb.LevelFigure]:
    """The figures added up over the nodes of each level, from the top level down."""
    levels = {node.id.bytes: node.level for node in nodes}
    sums: Counter[tuple[int, str]] = Counter()
    for figure in figures:
        if (level := levels.get(figure.origin)) in LEVELS:
            sums[LEVELS.index(level), figure.name] += figure.value
    return [
        pb.LevelFigure(level=LEVELS[at], name=name, value=value)
        for (at, name), value in sorted(sums.items())
    ]


def to_stream_proof(
    stream: Stream,
    proofs: Mapping[StreamKey, log_pb2.Proof],
    detached: Mapping[StreamKey, Sequence[str]],
) -> pb.StreamProof:
    return pb.StreamProof(
        service=stream.key.service, head=stream.head, proof=proofs.get(stream.key),
        detached=detached.get(stream.key), via=f"nodes/{stream.via}" if stream.via else "",
        refusals=stream.refusals, refusal=stream.refusal,
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


def _time(asked: Timestamp) -> datetime:
    """A time in a request, whatever its number: before 1970 and after 2100 are as bad as these."""
    return datetime.fromtimestamp(min(max(asked.seconds, 0), 4_102_444_800), UTC)


def _duration(age: timedelta | None) -> Duration | None:
    if age is None:
        return None
    duration = Duration()
    duration.FromTimedelta(age)
    return duration


def _without_ages(network: pb.Network) -> bytes:
    """The network as far as a change of it is worth a message."""
    bare = pb.Network()
    bare.CopyFrom(network)
    for node in bare.nodes:
        node.ClearField("heard_age")
        for stream in node.streams:
            stream.proof.ClearField("compare_age")
    for stream in bare.from_above:
        stream.proof.ClearField("compare_age")
    return bare.SerializeToString(deterministic=True)
