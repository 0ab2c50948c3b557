"""smartunion.notify.v1: from proto to a use case and back, for officers and for members."""

from collections.abc import AsyncIterator
from uuid import UUID

from kit.rpc import Context, call_of, check_enum, page_of, uuid_in
from services.notify.domain.inbox import Message
from services.notify.domain.notices import Notice
from services.notify.domain.voices import Step, Voice
from services.notify.usecases.inbox import Inboxes
from services.notify.usecases.notices import Notices
from services.notify.usecases.voices import Voices
from smartunion.notify.v1 import notify_pb2 as pb
from smartunion.notify.v1 import notify_pb2_grpc

USUAL, MOST = 20, 50
"""Items of a page: as many texts of 20,000 characters as a client takes in one message."""


class NotifyServicer(notify_pb2_grpc.NotifyServiceServicer):
    def __init__(self, notices: Notices, voices: Voices) -> None:
        self._notices, self._voices = notices, voices

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

    async def GetVoice(self, request: pb.GetVoiceRequest, context: Context) -> pb.Voice:
        return self._voice(await self._voices.get(uuid_in(request.name, "voices")))

    async def ListVoices(
        self, request: pb.ListVoicesRequest, context: Context
    ) -> pb.ListVoicesResponse:
        check_enum(request.state_here, pb.Voice.State.values(), field="state_here")
        page = page_of(request)
        found, key = await self._voices.page(
            request.parent, state_here=request.state_here, page=page
        )
        return pb.ListVoicesResponse(
            voices=map(self._voice, found), next_page_token=page.token(key)
        )

    async def PassOnVoice(self, request: pb.PassOnVoiceRequest, context: Context) -> pb.Voice:
        voice = await self._voices.pass_on(
            uuid_in(request.name, "voices"),
            reason=request.reason,
            call=call_of(request, request.request_id),
        )
        return self._voice(voice)

    async def AnswerVoice(self, request: pb.AnswerVoiceRequest, context: Context) -> pb.Voice:
        voice = await self._voices.answer(
            uuid_in(request.name, "voices"),
            text=request.text,
            call=call_of(request, request.request_id),
        )
        return self._voice(voice)

    async def CloseVoice(self, request: pb.CloseVoiceRequest, context: Context) -> pb.Voice:
        voice = await self._voices.close(
            uuid_in(request.name, "voices"),
            reason=request.reason,
            call=call_of(request, request.request_id),
        )
        return self._voice(voice)

    def _voice(self, voice: Voice) -> pb.Voice:
        return _voice(voice, self._voices.node)


class MyVoiceServicer(notify_pb2_grpc.MyVoiceServiceServicer):
    def __init__(self, voices: Voices) -> None:
        self._voices = voices

    async def RaiseVoice(self, request: pb.RaiseVoiceRequest, context: Context) -> pb.Voice:
        voice = await self._voices.raise_(request.text, call=call_of(request, request.request_id))
        return self._voice(voice)

    async def GetMyVoice(self, request: pb.GetMyVoiceRequest, context: Context) -> pb.Voice:
        return self._voice(await self._voices.get_mine(uuid_in(request.name, "voices")))

    async def ListMyVoices(
        self, request: pb.ListMyVoicesRequest, context: Context
    ) -> pb.ListMyVoicesResponse:
        page = page_of(request, usual=USUAL, most=MOST)
        found, key = await self._voices.page_of_mine(page)
        return pb.ListMyVoicesResponse(
            voices=map(self._voice, found), next_page_token=page.token(key)
        )

    def _voice(self, voice: Voice) -> pb.Voice:
        return _voice(voice, self._voices.node)


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
        voice=f"voices/{message.voice}" if message.voice else "",
    )


def _voice(voice: Voice, node: UUID) -> pb.Voice:
    return pb.Voice(
        name=voice.name,
        organization=f"organizations/{voice.organization}",
        origin=f"nodes/{voice.header.origin}",
        copy=voice.header.copy,
        raise_time=voice.raise_time,
        state=voice.state.name,
        state_here=voice.state_at(node).name,
        text=voice.text,
        verbatim=voice.verbatim,
        member=f"members/{voice.member}" if voice.member else "",
        steps=map(_told, voice.steps),
    )


def _told(step: Step) -> pb.Step:
    return pb.Step(
        action=step.action.name,
        organization=f"organizations/{step.office.organization}",
        node=f"nodes/{step.office.node}",
        level=step.office.level.name.lower(),
        handle_time=step.handle_time,
        text=step.text,
    )
