"""The house style of the contracts, checked on their descriptors."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from kit.authority import PERMISSIONS
from kit.gate import rule_of
from kit.personal import SHOWN, of_field
from smartunion.event.v1 import access_pb2

PROTOS = Path(__file__).parents[2] / "protos"
SERVED = [
    importlib.import_module(
        f"{'.'.join(path.relative_to(PROTOS).with_suffix('').parts)}_pb2"
    ).DESCRIPTOR
    for path in sorted(PROTOS.rglob("*.proto"))
]

PERSONAL = re.compile(
    r"(.*_)?(id_?numbers?|ids?_?no|phones?|mobiles?|tele?phones?|e?mails?|address(es)?|birth\w*"
    r"|bank\w*|accounts?\w*|(full|real|person|family|given|spouse|child|applicant)_?names?"
    r"|texts?|reasons?|purposes?|contents?|notes?|remarks?|comments?|file_names?)"
)
"""Names of fields that look as if a person stood in them."""
NOT_PERSONAL = {
    "smartunion.benefits.v1.MyCard.text": "a card holds no name and no number",
    "smartunion.benefits.v1.VerifyCardRequest.text": "a card holds no name and no number",
    "smartunion.membership.v1.PrivacyText.text": "what everybody is told",
    "smartunion.membership.v1.Roster.refuse_reason": "the name of a refusal",
    "smartunion.membership.v1.RosterRow.reason": "the name of a refusal",
    "smartunion.notify.v1.Notice.text": "posted for everybody",
    "smartunion.notify.v1.PublicHandling.sealed_text": "sealed",
    "smartunion.notify.v1.PublicNotice.text": "posted for everybody",
    "smartunion.sync.v1.Directive.text": "what an office asks of offices",
    "smartunion.sync.v1.Home.address": "where a node is reached",
    "smartunion.sync.v1.PublicHome.address": "where a node is reached",
    "smartunion.sync.v1.PublicDirective.text": "what an office asks of offices",
    "smartunion.sync.v1.DirectiveReport.reason": "what an office answers",
    "smartunion.sync.v1.PublicDirectiveReport.reason": "what an office answers",
    "smartunion.sync.v1.RefuseDirectiveRequest.reason": "what an office answers",
}
"""Those that look so and are not, and why."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    out = tmp_path_factory.mktemp("protos") / "all.binpb"
    names = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.rglob("*.proto"))]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", "--include_source_info",
         f"--descriptor_set_out={out}", *names],
        check=True,
    )  # fmt: skip
    return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def elements(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every element of a file that people read, with its path in the source information."""
    for at, message in enumerate(file.message_type):
        yield from of_message(message, (4, at))
    for at, enum in enumerate(file.enum_type):
        yield from of_enum(enum, (5, at))
    for at, service in enumerate(file.service):
        yield service.name, (6, at)
        for inner, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (6, at, 2, inner)
    for at, extension in enumerate(file.extension):
        yield extension.name, (7, at)


def of_message(
    message: descriptor_pb2.DescriptorProto, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield message.name, path
    for at, field in enumerate(message.field):
        yield f"{message.name}.{field.name}", (*path, 2, at)
    for at, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from of_message(nested, (*path, 3, at))
    for at, enum in enumerate(message.enum_type):
        yield from of_enum(enum, (*path, 4, at))


def of_enum(
    enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield enum.name, path
    for at, value in enumerate(enum.value):
        yield f"{enum.name}.{value.name}", (*path, 2, at)


def test_every_element_says_what_it_is(files: list[FileDescriptorProto]) -> None:
    silent = []
    for file in files:
        said = {tuple(place.path) for place in file.source_code_info.location
                if place.leading_comments.strip()}  # fmt: skip
        silent += [name for name, path in elements(file) if path not in said]
    assert silent == []


def test_every_request_is_named_after_its_method(files: list[FileDescriptorProto]) -> None:
    for file in files:
        for service in file.service:
            for method in service.method:
                assert method.input_type == f".{file.package}.{method.name}Request"


def test_every_method_says_who_may_call_it() -> None:
    for file in SERVED:
        for service in file.services_by_name.values():
            for method in service.methods:
                rule = rule_of(service.full_name, method.name)
                assert rule.access != access_pb2.ACCESS_UNSPECIFIED, method.full_name


def test_every_method_of_officers_says_what_some_role_permits() -> None:
    """A method of officers without a permission is refused to all; of others, it means nothing."""
    asked = set()
    for file in SERVED:
        for service in file.services_by_name.values():
            for method in service.methods:
                said: Any = method.GetOptions().Extensions
                permission, place = said[access_pb2.permission], said[access_pb2.place]
                of_officers = said[access_pb2.access] == access_pb2.OFFICER
                assert bool(permission) == of_officers, method.full_name
                assert of_officers or place == access_pb2.PLACE_UNSPECIFIED, method.full_name
                asked |= {permission} if permission else set()
    permitted = set[str]().union(*PERMISSIONS.values())
    assert asked == permitted


def all_fields() -> Iterator[FieldDescriptor]:
    """Every field of every message, nested ones too."""

    def inside(message: Descriptor) -> Iterator[FieldDescriptor]:
        yield from message.fields
        for nested in message.nested_types:
            yield from inside(nested)

    for file in SERVED:
        for message in file.message_types_by_name.values():
            yield from inside(message)


def test_what_looks_personal_says_what_it_is() -> None:
    """From the option `pii` follows what is masked and what no log shows.  A new field: give it the
    option, or say here why it is not personal."""
    silent = {
        field.full_name
        for field in all_fields()
        if field.type in (field.TYPE_STRING, field.TYPE_BYTES)
        and PERSONAL.fullmatch(field.name)
        and not of_field(field)
    }
    assert silent == set(NOT_PERSONAL)


def test_what_is_personal_can_be_masked_and_redacted() -> None:
    """Masks and redaction know single texts and bytes, in messages that are no maps."""
    for field in all_fields():
        if of_field(field):
            kinds = (field.TYPE_STRING,) if of_field(field) in SHOWN else (
                field.TYPE_STRING, field.TYPE_BYTES)  # fmt: skip
            assert field.type in kinds and not field.is_repeated, field.full_name
            assert field.containing_type and not field.containing_type.GetOptions().map_entry
        if field.message_type and field.message_type.GetOptions().map_entry:
            assert not field.message_type.fields_by_name["value"].message_type, field.full_name


def test_about_oneself_alone_is_only_the_explanation() -> None:
    own = [
        method.name
        for file in SERVED
        for service in file.services_by_name.values()
        for method in service.methods
        if rule_of(service.full_name, method.name).access == access_pb2.SELF
    ]
    assert own == ["ExplainAccess"]


def test_every_list_has_pages(files: list[FileDescriptorProto]) -> None:
    """But those of services of the node, and of its own few: enrolments that wait, texts, proofs,
    keys, figures."""
    for file in files:
        requests = {message.name: {field.name for field in message.field}
                    for message in file.message_type}  # fmt: skip
        for name, fields in requests.items():
            few = name in (
                "ListEnrollmentsRequest",
                "ListPrivacyTextsRequest",
                "ListProofsRequest",
                "ListKeysRequest",
                "ListFiguresRequest",
            )
            if name.startswith("List") and name.endswith("Request") and not few:
                assert {"page_size", "page_token"} <= fields, name
