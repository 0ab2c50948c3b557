"""smartunion.sync.v1.DirectiveService: from proto to a use case and back."""

from typing import Any

from kit.rpc import Context, call_of, page_of, uuid_in
from services.sync.domain.directives import Progress, Report
from services.sync.domain.directives import State as DirectiveState
from services.sync.domain.nodes import Node
from services.sync.servicer import time_of
from services.sync.usecases.directives import Directives, Draft, Overview
from smartunion.sync.v1 import directive_pb2, directive_pb2_grpc


class DirectiveServicer(directive_pb2_grpc.DirectiveServiceServicer):
    def __init__(self, directives: Directives) -> None:
        self._directives = directives

    async def CreateDirective(
        self, request: directive_pb2.CreateDirectiveRequest, context: Context
    ) -> directive_pb2.Directive:
        asked = request.directive
        draft = Draft(
            title=asked.title, text=asked.text, subtree=asked.subtree, levels=tuple(asked.levels),
            due_time=time_of(asked.due_time),
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
