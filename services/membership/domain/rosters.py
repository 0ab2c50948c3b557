"""Rosters (花名册): a file is uploaded, its rows are checked, and another officer commits them."""

from dataclasses import dataclass, replace
from enum import IntEnum
from uuid import UUID

from kit.errors import FailedPrecondition, InvalidArgument, NotFound, Refusal, Unavailable
from kit.texts import check_characters

MOST_BYTES = 2**28
MOST_PART_BYTES = 2**20


class RosterNotFound(NotFound):
    message = "there is no {roster} at this node"
    chinese = "本节点没有 {roster}"


class FileNameLength(InvalidArgument):
    field = "roster.file_name"
    message = "a file name has 1 to 255 characters, not {length}"
    chinese = "文件名应为 1 至 255 个字，而不是 {length} 个"


class RosterSize(InvalidArgument):
    field = "roster.size_bytes"
    message = "a roster has 1 to 268435456 bytes, not {size_bytes}; split a larger file"
    chinese = "花名册应为 1 至 268435456 字节，而不是 {size_bytes}；更大的文件请拆分"


class ChecksumLength(InvalidArgument):
    field = "roster.sha256"
    message = "a SHA-256 has 32 bytes, not {length}"
    chinese = "SHA-256 应为 32 字节，而不是 {length}"


class PartTooLarge(InvalidArgument):
    field = "content"
    message = "a part has at most 1048576 bytes, not {length}"
    chinese = "每段内容不得超过 1048576 字节，而不是 {length}"


class OffsetNegative(InvalidArgument):
    field = "offset"
    message = "an offset is 0 or more, not {offset}"
    chinese = "offset 应不小于 0，而不是 {offset}"


class OffsetBeyondReceived(FailedPrecondition):
    field = "offset"
    message = "{received_bytes} bytes of {roster} have been received; go on there, not at {offset}"
    chinese = "{roster} 已收到 {received_bytes} 字节；请从该处继续，而不是 {offset}"


class RosterTooLong(FailedPrecondition):
    field = "content"
    message = "{roster} was announced with {size_bytes} bytes; this part goes on to {end}"
    chinese = "{roster} 声明的大小是 {size_bytes} 字节；这段内容却到了 {end}"


class RosterNameChanged(InvalidArgument):
    field = "name"
    message = "an upload is of one roster: {roster}; later messages name the same or none"
    chinese = "一次上传只针对一个花名册 {roster}；后续消息应写同一名称或留空"


class ChecksumDifferent(FailedPrecondition):
    message = (
        "the content received is not that of the file announced (its SHA-256 differs); "
        "create the roster again"
    )
    chinese = "收到的内容与所声明的文件不一致（SHA-256 不同）；请重新创建花名册"


class ImportFailed(FailedPrecondition):
    message = "the import failed unexpectedly; what is done stays; upload the rest again"
    chinese = "导入意外失败；已完成的部分保留；请将其余部分重新上传"


class PreviewFailed(FailedPrecondition):
    message = "the check failed unexpectedly; nothing was changed; create the roster again"
    chinese = "检查意外失败；没有任何改动；请重新创建花名册"


class RosterNotPreviewed(FailedPrecondition):
    message = "{roster} is {state}; only a PREVIEWED roster can be committed"
    chinese = "{roster} 的状态是 {state}；只有已检查（PREVIEWED）的花名册可以提交导入"


class RosterImported(FailedPrecondition):
    message = "{roster} is {state}; what is imported cannot be discarded"
    chinese = "{roster} 的状态是 {state}；已导入的内容不能放弃"


class RosterUnfinished(FailedPrecondition):
    message = "{roster} is {state}; its result is there when it is PREVIEWED, DONE or REFUSED"
    chinese = "{roster} 的状态是 {state}；检查或导入结束后（PREVIEWED、DONE、REFUSED）才有结果文件"


class Stopping(Unavailable):
    message = "this replica is stopping; watch again, at another one"
    chinese = "本副本正在停止；请重新连接"


class RosterState(IntEnum):
    """Where an import stands, with the numbers of the contract."""

    UPLOADING = 1
    IMPORTING = 2
    DONE = 3
    REFUSED = 4
    PREVIEWING = 5
    PREVIEWED = 6
    DISCARDED = 7


ENDED = (RosterState.DONE, RosterState.REFUSED, RosterState.DISCARDED)
"""Nothing can become of these any more."""


AT_WORK = (RosterState.IMPORTING, RosterState.PREVIEWING)
UNCHANGING = (RosterState.UPLOADING, RosterState.PREVIEWING, RosterState.PREVIEWED)
"""States in which nothing has been changed yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """The import of one file of people."""

    id: UUID
    organization: UUID
    file_name: str
    size_bytes: int
    sha256: str
    """64 hex digits."""
    state: RosterState = RosterState.UPLOADING
    received_bytes: int = 0
    total_rows: int = 0
    done_rows: int = 0
    admitted_rows: int = 0
    applied_rows: int = 0
    unchanged_rows: int = 0
    refused_rows: int = 0
    skipped_rows: int = 0
    creator: str = ""
    """Who brought it, and so files the applications in it and does not commit it."""
    committer: str = ""
    """Who let it be imported; empty until then."""
    sheet: str = ""
    """Of a workbook: the sheet that was read."""
    unread_sheets: tuple[str, ...] = ()
    """Of a workbook: the other sheets that are not empty."""
    refuse_reason: str = ""
    refuse_message: str = ""
    """English, and Chinese after a line break."""

    @property
    def name(self) -> str:
        return f"rosters/{self.id}"

    @property
    def has_ended(self) -> bool:
        """Whether nothing can become of it any more: its content is needed no longer."""
        return self.state in ENDED

    @property
    def rests(self) -> bool:
        """Whether it does not go on by itself."""
        return self.has_ended or self.state is RosterState.PREVIEWED

    @property
    def is_complete(self) -> bool:
        return self.received_bytes == self.size_bytes

    def receive(self, offset: int, content: bytes) -> tuple["Roster", bytes]:
        """The roster with the part of `content` that is new, and that part; of one that was
        discarded meanwhile nothing is new.

        Raises:
            OffsetNegative, PartTooLarge: if the message is wrong.
            OffsetBeyondReceived: if bytes before it are missing.
            RosterTooLong: if it has more bytes than were announced.
        """
        if offset < 0:
            raise OffsetNegative(offset=offset)
        if len(content) > MOST_PART_BYTES:
            raise PartTooLarge(length=len(content))
        if offset > self.received_bytes:
            raise OffsetBeyondReceived(
                roster=self.name, received_bytes=self.received_bytes, offset=offset
            )
        end = offset + len(content)
        if end > self.size_bytes:
            raise RosterTooLong(roster=self.name, size_bytes=self.size_bytes, end=end)
        if self.has_ended:
            return self, b""
        fresh = content[self.received_bytes - offset :]
        return replace(self, received_bytes=self.received_bytes + len(fresh)), fresh

    def complete(self, sha256: str) -> "Roster":
        """The roster when all bytes are there: to be checked, or refused if they are others."""
        if sha256 != self.sha256:
            return self.refuse(ChecksumDifferent())
        return replace(self, state=RosterState.PREVIEWING)

    def finish(self) -> "Roster":
        """The roster when every row has a result."""
        previewing = self.state is RosterState.PREVIEWING
        return replace(self, state=RosterState.PREVIEWED if previewing else RosterState.DONE)

    def commit(self, *, by: str) -> "Roster":
        """The roster that is imported now; each row is checked again.

        Raises:
            RosterNotPreviewed: unless it waits for this.
        """
        if self.state is not RosterState.PREVIEWED:
            raise RosterNotPreviewed(roster=self.name, state=self.state.name)
        return replace(self, state=RosterState.IMPORTING, committer=by)

    def discard(self) -> "Roster":
        """The roster given up before anything was changed.

        Raises:
            RosterImported: if something was, or nothing ever will be.
        """
        if self.state not in UNCHANGING:
            raise RosterImported(roster=self.name, state=self.state.name)
        return replace(self, state=RosterState.DISCARDED)

    def check_has_result(self) -> None:
        """Raises RosterUnfinished unless its rows stand still."""
        if not self.rests or self.state is RosterState.DISCARDED:
            raise RosterUnfinished(roster=self.name, state=self.state.name)

    def give_up(self) -> "Roster":
        """The roster refused because its rows fail for an unforeseen reason."""
        previewing = self.state is RosterState.PREVIEWING
        return self.refuse(PreviewFailed() if previewing else ImportFailed())

    def refuse(self, refusal: Refusal) -> "Roster":
        """The roster refused as a whole."""
        return replace(
            self,
            state=RosterState.REFUSED,
            refuse_reason=refusal.reason,
            refuse_message=f"{refusal}\n{refusal.chinese_text}",
        )


def announce_roster(
    *,
    id: UUID,
    organization: UUID,
    file_name: str,
    size_bytes: int,
    sha256: bytes,
    by: str,
) -> Roster:
    """A roster that waits for its content.

    Raises:
        FileNameLength, TextCharacters, RosterSize, ChecksumLength: if what is announced is wrong.
    """
    file_name = file_name.strip()
    if not 1 <= len(file_name) <= 255:
        raise FileNameLength(length=len(file_name))
    check_characters(file_name, field="roster.file_name")
    if not 1 <= size_bytes <= MOST_BYTES:
        raise RosterSize(size_bytes=size_bytes)
    if len(sha256) != 32:
        raise ChecksumLength(length=len(sha256))
    return Roster(
        id=id, organization=organization, file_name=file_name, size_bytes=size_bytes,
        sha256=sha256.hex(), creator=by,
    )  # fmt: skip
