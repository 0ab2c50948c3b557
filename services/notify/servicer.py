"""smartunion.notify.v1: from proto to a use case and back, for officers and for members."""

from collections.abc import AsyncIterator

from kit.rpc import Context, call_of, page_of, uuid_in
from services.notify.domain.inbox import Message
from services.notify.domain.notices import Notice
from services.notify.usecases.inbox import Inboxes
from services.notify.usecases.notices import Notices
from smartunion.notify.v1 import notify_pb2 as pb
from smartunion.notify.v1 import notify_pb2_grpc

USUAL, MOST = 20, 50
"""Items of a page: as many texts of 20,000 characters as a client takes in one message."""


class NotifyServicer(notify_pb2_grpc.NotifyServiceServicer):
    def __init__(self, notices: Notices) -> None:
        self._notices = notices

    async def CreateNotice(self, request: pb.CreateNoticeRequest, context: Context) -> pb.Notice:
        notice = await self._notices.create(
            request.parent,
            title=request.notice.title,
            text=request.notice.text,
            expire_seconds=request.notice.expire_time.seconds,
            call=call_of(request, request.request_id),
        )
        return _notice(notice)

    async def GetNotice(self, request: pb.GetNoticeRequest, context: Context) -> pb.Notice:
        return _notice(await self._notices.get(uuid_in(request.name, "notices")))

    async def ListNotices(
        self, request: pb.ListNoticesRequest, context: Context
    ) -> pb.ListNoticesResponse:
        page = page_of(request, usual=USUAL, most=MOST)
        found, key = await self._notices.page(request.parent, page=page)
        return pb.ListNoticesResponse(notices=map(_notice, found), next_page_token=page.token(key))


class MyInboxServicer(notify_pb2_grpc.MyInboxServiceServicer):
    def __init__(self, inboxes: Inboxes) -> None:
        self._inboxes = inboxes

    async def ListMyMessages(
        self, request: pb.ListMyMessagesRequest, context: Context
    ) -> pb.ListMyMessagesResponse:
        page = page_of(request, usual=USUAL, most=MOST)
        found, key = await self._inboxes.page(page)
        return pb.ListMyMessagesResponse(
            messages=map(_message, found), next_page_token=page.token(key)
        )

    async def WatchMyInbox(
        self, request: pb.WatchMyInboxRequest, context: Context
    ) -> AsyncIterator[pb.WatchMyInboxResponse]:
        async for message, token in self._inboxes.watch(
            request.resume_token, from_now=request.from_now
        ):
            yield pb.WatchMyInboxResponse(
                message=_message(message) if message else None, resume_token=token
            )

    async def MarkRead(self, request: pb.MarkReadRequest, context: Context) -> pb.Message:
        return _message(await self._inboxes.mark_read(uuid_in(request.name, "messages")))


def _notice(notice: Notice) -> pb.Notice:
    return pb.Notice(
        name=notice.name,
        organization=f"organizations/{notice.organization}",
        title=notice.title,
        text=notice.text,
        create_time=notice.create_time,
        expire_time=notice.expire_time,
        origin=f"nodes/{notice.header.origin}",
        copy=notice.header.copy,
        readers=notice.readers,
    )


def _message(message: Message) -> pb.Message:
    return pb.Message(
        name=message.name,
        kind=message.kind.name,
        title=message.title,
        text=message.text,
        organization=f"organizations/{message.organization}",
        create_time=message.create_time,
        expire_time=message.expire_time,
        unread=message.unread,
    )
