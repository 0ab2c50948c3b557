"""smartunion.event.v1.AccessService: why somebody may call the methods of a service, or not; and
who has changed what."""

import re

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default

from kit import audit, authority
from kit.authority import Finding, Office, is_within, scope
from kit.chain import Row
from kit.db import Pool
from kit.errors import InvalidArgument
from kit.gate import Rule, rule_of
from kit.offices import Offices
from kit.organizations import organization_in
from kit.rpc import Context, Page, PageTokenForeign, caller, page_of, uuid_in
from kit.tree import Organizations
from smartunion.event.v1 import access_pb2 as pb
from smartunion.event.v1 import access_pb2_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["AccessService"].full_name

_KEY = re.compile(r"[0-9]{1,18}(\.[0-9a-f]{64})?")

TEXTS = {
    Finding.ALLOWED: (
        "{caller} may, by {office} ({role})",
        "{caller} 可以，依据职务 {office}（{role}）",
    ),
    Finding.NO_OFFICE: (
        "{caller} holds no office in force at this node; one of these roles is needed: {roles}",
        "{caller} 在本节点没有有效职务；需要以下职务之一：{roles}",
    ),
    Finding.ELSEWHERE: (
        "the offices of {caller} are of other organisations; needed is an office of this one or of "
        "one above, with one of these roles: {roles}",
        "{caller} 的职务属于其他组织；需要在该组织或其上级担任以下职务之一：{roles}",
    ),
    Finding.NOT_PERMITTED: (
        "{office} ({role}) is of this organisation or above, but its role does not permit "
        "{permission}; these do: {roles}",
        "{office}（{role}）属于该组织或其上级，但不含 {permission} 权限；以下职务包含：{roles}",
    ),
    Finding.ENDED: (
        "{office} ({role}) has ended; the chair of its organisation, or of one above, can appoint "
        "again",
        "{office}（{role}）已终止；可由该组织或其上级的主席重新任命",
    ),
    Finding.NOT_BEGUN: ("{office} ({role}) has not begun yet", "{office}（{role}）尚未开始"),
    Finding.NOT_FOR_CALLER: (
        "{method} is not open to {caller}: it is for officers, or it is none of theirs",
        "{method} 不对 {caller} 开放：仅限干部，或不属于干部的业务",
    ),
}  # fmt: skip
"""What is said of a finding, in English and Chinese."""


class MethodUnknown(InvalidArgument):
    field = "method"
    message = (
        "{method} is no method of this service; write its full name, such as "
        "smartunion.membership.v1.MembershipService.GetMember"
    )
    chinese = (
        "本服务没有方法 {method}；请填写全名，例如 "
        "smartunion.membership.v1.MembershipService.GetMember"
    )


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    def __init__(self, pool: Pool, offices: Offices, home: str) -> None:
        """`home`: the path of the organisation that the node serves."""
        self._organizations, self._offices, self._home = Organizations(pool), offices, home
        self._pool = pool

    async def ExplainAccess(
        self, request: pb.ExplainAccessRequest, context: Context
    ) -> pb.Explanation:
        rule = _rule_in(request.method)
        if rule.access != pb.OFFICER or not caller.get().startswith(("officers/", "members/")):
            return _explanation(Finding.NOT_FOR_CALLER, request.method, rule, None)
        found, office = authority.explain(
            self._offices.of(caller.get()), rule.permission,
            await self._path(rule, request.organization), at=self._offices.clock(),
        )  # fmt: skip
        return _explanation(found, request.method, rule, office)

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: Context
    ) -> pb.ListAuditEntriesResponse:
        page = page_of(request)
        within = await self._organizations.within(request.parent, scope.get())
        found = await audit.page(
            self._pool, within, all_of_node=any(is_within(self._home, above) for above in within),
            resource=request.resource, caller=request.caller,
            before=_before(page)[0], limit=page.size + 1,
        )  # fmt: skip
        shown, key = page.cut(found, key=lambda row: str(row.number))
        return pb.ListAuditEntriesResponse(
            entries=map(_entry, shown), next_page_token=page.token(key)
        )

    async def ListAuditHeads(
        self, request: pb.ListAuditHeadsRequest, context: Context
    ) -> pb.ListAuditHeadsResponse:
        page, origin = page_of(request), uuid_in(request.parent, "nodes", field="parent")
        found = await audit.page_of_heads(
            self._pool, origin, before=_before(page), limit=page.size + 1
        )
        shown, key = page.cut(found, key=lambda row: f"{row['number']}.{row['hash'].hex()}")
        return pb.ListAuditHeadsResponse(
            heads=[
                pb.AuditHead(
                    number=row["number"], hash=row["hash"], certify_time=row["certify_time"]
                )
                for row in shown
            ],
            next_page_token=page.token(key),
        )

    async def _path(self, rule: Rule, organization: str) -> str | None:
        """Of the organisation in question; None if any will do."""
        if rule.place == pb.ANYWHERE:
            return None
        if rule.place == pb.HOME:
            return self._home
        asked = organization_in(organization, field="organization")
        return (await self._organizations.get(asked, name=organization)).path


def _rule_in(method: str) -> Rule:
    """The rule of a method, by its full name.  Raises MethodUnknown."""
    try:
        found: MethodDescriptor = Default().FindMethodByName(method)
    except KeyError:
        raise MethodUnknown(method=method[:200]) from None
    return rule_of(found.containing_service.full_name, found.name)


def _before(page: Page) -> tuple[int, bytes]:
    """The number, and perhaps the hash, before which a list goes on.  Raises PageTokenForeign."""
    if not page.key:
        return audit.END, b""
    if not _KEY.fullmatch(page.key):
        raise PageTokenForeign()
    number, _, hash_ = page.key.partition(".")
    return int(number), bytes.fromhex(hash_)


def _entry(row: Row) -> pb.AuditEntry:
    return pb.AuditEntry(
        number=row.number, act_time=row.time, caller=row.caller, office=row.office,
        method=row.method, path=row.path, resources=row.names,
        request_id=str(row.request_id or ""), purpose=row.purpose, hash=row.hash,
    )  # fmt: skip


def _explanation(
    finding: Finding, method: str, rule: Rule, office: Office | None
) -> pb.Explanation:
    roles = [role.name for role in authority.roles_for(rule.permission)]
    english, chinese = TEXTS[finding]
    facts = {
        "caller": caller.get(), "method": method, "permission": rule.permission,
        "roles": ", ".join(roles), "office": office.name if office else "",
        "role": office.role.name if office else "",
    }  # fmt: skip
    return pb.Explanation(
        finding=pb.Explanation.Finding.Name(finding), message=english.format(**facts),
        chinese_message=chinese.format(**facts), permission=rule.permission, roles=roles,
        office=facts["office"], role=facts["role"],
        begin_time=office.begin_time if office else None,
        end_time=office.end_time if office else None, step_up=rule.step_up,
    )  # fmt: skip
