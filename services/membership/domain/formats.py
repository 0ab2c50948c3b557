"""What kind of file was sent, by its first bytes and not by its name."""

from enum import Enum

from kit.errors import InvalidArgument

MOST_WORKBOOK_BYTES = 2**26
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
"""Stands in a workbook with a password, which is wrapped into the container of an old one."""
_OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_NO_TABLES = {
    b"%PDF": ".pdf",
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"Rar!": ".rar",
    b"7z\xbc\xaf": ".7z",
    b"\x1f\x8b": ".gz",
}


class NoTable(InvalidArgument):
    message = (
        "this is a file of the kind {kind}, and no table; send the spreadsheet itself, as .xlsx "
        "or CSV (UTF-8)"
    )
    chinese = "这是 {kind} 文件，不是表格；请上传电子表格本身（.xlsx 或 CSV UTF-8）"


class OtherSpreadsheet(InvalidArgument):
    message = (
        "this is a file of the kind {kind}; open it in a spreadsheet program and save it as .xlsx "
        "or CSV (UTF-8)"
    )
    chinese = "这是 {kind} 文件；请用表格软件打开，另存为 .xlsx 或 CSV（UTF-8）"


class WorkbookEncrypted(InvalidArgument):
    message = "the workbook has a password; take the password off and save it as .xlsx"
    chinese = "工作簿设有密码；请取消密码后另存为 .xlsx"


class WorkbookDamaged(InvalidArgument):
    message = "the workbook is damaged; open it in a spreadsheet program and save it as .xlsx anew"
    chinese = "工作簿已损坏；请用表格软件打开并重新另存为 .xlsx"


class WorkbookTooLarge(InvalidArgument):
    message = (
        "the workbook is too large to be opened here (some 400,000 rows are possible); delete what "
        "stands outside the table, split it, or save it as CSV (UTF-8)"
    )
    chinese = (
        "工作簿太大，无法打开（最多约 40 万行）；"
        "请删除表格以外的内容、拆分文件，或另存为 CSV（UTF-8）"
    )


class Format(Enum):
    """How a file is read."""

    TEXT = "text"
    WORKBOOK = "workbook"
    OLD = "old"
    """.xls, .et, or a workbook with a password: not read, but told apart."""


def format_of(first: bytes) -> Format:
    """What the first bytes of a file say.

    Raises:
        NoTable, OtherSpreadsheet: if it is neither text nor a workbook.
    """
    if first.startswith(b"PK\x03\x04"):
        return Format.WORKBOOK
    if first.startswith(_OLD):
        return Format.OLD
    for signature, kind in _NO_TABLES.items():
        if first.startswith(signature):
            raise NoTable(kind=kind)
    if first[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise OtherSpreadsheet(kind=".html/.xml")
    return Format.TEXT


def check_workbook(names: list[str]) -> None:
    """Whether an archive with these files in it is a workbook (.xlsx, .xlsm).

    Raises:
        NoTable, OtherSpreadsheet: naming what it is.
    """
    if "xl/workbook.xml" in names:
        return
    if "xl/workbook.bin" in names:
        raise OtherSpreadsheet(kind=".xlsb")
    if any(name.endswith(".iwa") for name in names):
        raise OtherSpreadsheet(kind=".numbers")
    if "content.xml" in names:
        raise OtherSpreadsheet(kind=".ods")
    if any(name.startswith("word/") for name in names):
        raise NoTable(kind=".docx")
    raise NoTable(kind=".zip")
