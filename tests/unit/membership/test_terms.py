"""For how long persons who were turned down are kept."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from kit.config import CannotServe
from services.membership.domain.privacy import FIRST, Term, ended
from services.membership.usecases.privacy import terms_in

NOW = datetime(2026, 11, 26, tzinfo=UTC)
LONG = Term(effective_date=date(2026, 1, 1), days=100)
SHORT = Term(effective_date=date(2026, 11, 1), days=10)


def test_each_decision_is_kept_as_its_day_says() -> None:
    """In Beijing the day of a new term begins eight hours earlier."""
    begin = datetime(2026, 10, 31, 16, tzinfo=UTC)
    assert ended([LONG], at=NOW) == [(FIRST, datetime(2026, 8, 18, tzinfo=UTC))]
    assert ended([SHORT, LONG], at=NOW) == [
        (FIRST, datetime(2026, 8, 18, tzinfo=UTC)),
        (begin, datetime(2026, 11, 16, tzinfo=UTC)),
    ]
    later = datetime(2027, 11, 26, tzinfo=UTC)
    assert ended([SHORT, LONG], at=later)[0] == (FIRST, begin)


def test_a_term_that_has_not_begun_shortens_nothing() -> None:
    future = Term(effective_date=date(2027, 1, 1), days=1)
    assert ended([LONG, future], at=NOW) == ended([LONG], at=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "terms = []",
        "[[terms]]\ndays = 1",
        "[[terms]]\neffective_date = 2026-01-01\ndays = 0",
        '[[terms]]\neffective_date = "2026-01-01"\ndays = 1',
        "[[terms",
    ],
)
def test_a_node_does_not_start_without_a_term(text: str, tmp_path: Path) -> None:
    file = tmp_path / "privacy.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CannotServe, match="terms"):
        terms_in(file)
