"""The page of reasons holds all that a client can be refused with, as the classes say it."""

from docs.reasons import page, refusals
from kit.errors import InvalidArgument


class SeatTaken(InvalidArgument):
    field = "seat"
    message = "the format is seats/{{number}} | *, not {seat}"
    chinese = "格式应为 seats/{{number}} | *，而不是 {seat}"


def test_a_reason_is_one_row_with_all_that_a_client_asks() -> None:
    assert page([SeatTaken]).splitlines()[-1] == (
        r"| `SEAT_TAKEN` | `INVALID_ARGUMENT` | the format is seats/{number} \| \*, not {seat} "
        r"| 格式应为 seats/{number} \| \*，而不是 {seat} | all | `seat` |"
    )


def test_the_page_holds_the_reasons_of_kit_and_services_and_no_others() -> None:
    rows = page(refusals())
    assert "| `TOKEN_INVALID` | `UNAUTHENTICATED` |" in rows
    assert "| membership | `id_number` |" in rows and "| sync | `resume_token` |" in rows
    assert "SEAT_TAKEN" not in rows
