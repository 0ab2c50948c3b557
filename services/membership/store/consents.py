"""The ledger of consents and legal bases, and the texts that it names.  Rows are only added."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from kit.db import Connection, Pool
from services.membership.domain.consents import Basis, Consent, PrivacyText, Step, Texts

CONSENT = """
    SELECT id, person, use, effective_date, basis, step, recorder, time
      FROM consents JOIN privacy_texts USING (use, effective_date)
"""


class Consents:
    def __init__(self, conn: "Connection | Pool") -> None:
        self._conn = conn

    async def add_all(self, consents: Iterable[Consent]) -> None:
        await self._conn.copy_records_to_table(
            "consents",
            columns=["id", "person", "use", "effective_date", "step", "recorder", "time"],
            records=[
                (one.id, one.person, one.use, one.effective_date, one.step, one.recorder, one.time)
                for one in consents
            ],
        )

    async def lock_latest(self, records: Sequence[UUID], use: str) -> Consent | None:
        """What a person did about one use last, under any of their records; nobody else gives or
        withdraws for them, and none of these becomes another, until the transaction ends."""
        await self._conn.execute(
            "SELECT FROM people WHERE id = ANY ($1) ORDER BY id FOR UPDATE", records
        )
        row = await self._conn.fetchrow(
            f"""
            {CONSENT} WHERE person = ANY ($1) AND use = $2 AND step <> $3 ORDER BY id DESC LIMIT 1
            """,
            records, use, Step.INFORMED,
        )  # fmt: skip
        return _consent(row) if row else None

    async def page(self, records: Sequence[UUID], *, before: UUID, limit: int) -> list[Consent]:
        """Those of a person, the newest first."""
        rows = await self._conn.fetch(
            f"{CONSENT} WHERE person = ANY ($1) AND id < $2 ORDER BY id DESC LIMIT $3",
            records, before, limit,
        )  # fmt: skip
        return [_consent(row) for row in rows]

    async def texts(self) -> list[PrivacyText]:
        """All that people were told here."""
        rows = await self._conn.fetch("SELECT * FROM privacy_texts ORDER BY use, effective_date")
        return [PrivacyText(**{**row, "basis": Basis(row["basis"])}) for row in rows]

    async def keep(self, texts: Texts) -> list[PrivacyText]:
        """Keep what is told from now on; those that were kept before with other words."""
        await self._conn.executemany(
            "INSERT INTO privacy_texts VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            [(one.use, one.effective_date, one.basis, one.title, one.text) for one in texts.all],
        )
        kept = {(one.use, one.effective_date): one for one in await self.texts()}
        return [one for one in texts.all if kept[one.use, one.effective_date] != one]


def _consent(row: Any) -> Consent:
    return Consent(**{**row, "basis": Basis(row["basis"]), "step": Step(row["step"])})
